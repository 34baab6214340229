"""Totals of two adjoining windows of fixed length, the ground of §5.5.2 and §5.8.

Windows start at `floor(now / length) * length`. The triple is (start of the current window, total
of the previous one, total of the current one), times in epoch microseconds.
"""

Totals = tuple[int, int, int]


def roll(start: int, previous: int, current: int, now: int, length: int) -> Totals:
    """Return the totals as seen at `now`; from a window that lies ahead they are carried over."""
    at = now - now % length
    if at <= start:
        return at, previous, current
    if at == start + length:
        return at, current, 0
    return at, 0, 0


def give_back(totals: Totals, cost: int, charged_at: int, length: int) -> Totals:
    """Subtract a cost from the window it was charged in; an older one has been forgotten."""
    start, previous, current = totals
    if charged_at >= start:
        return start, previous, max(0, current - cost)
    if charged_at >= start - length:
        return start, max(0, previous - cost), current
    return totals


def forgotten_at(start: int, previous: int, current: int, length: int) -> int:
    """Return when neither total counts any more."""
    if current:
        return start + 2 * length
    return start + length if previous else start
