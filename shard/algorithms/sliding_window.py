"""Sliding window by two weighted counters (§5.5.2).

W = window, P and C = totals of the previous and current window, e = elapsed part of the current:

    refused iff P * (1 - e/W) + C + cost > limit
    left = floor(limit - P * (1 - e/W) - C)
    retry = max(1, ceil(wait)):
        P > 0 and C + cost <= limit   wait = W * (1 - (limit - cost - C) / P) - e
        cost > limit                  wait = 2W - e
        otherwise                     wait = W - e + max(0, W * (1 - (limit - cost) / C))

All of it is multiplied out by W, P or C, so that only integers are compared and divided.

State: (start of the current window in epoch microseconds, P, C), both in micro-units.
"""

from dataclasses import dataclass

from protocol.operations import Verdict
from shard.algorithms.limiter import MICRO, Params, granted, integer
from shard.algorithms.windows import Totals, forgotten_at, give_back, roll


@dataclass(frozen=True, slots=True)
class SlidingWindowLimiter:
    """`limit` in micro-units, `length` in microseconds."""

    limit: int
    length: int

    @classmethod
    def build(cls, params: Params) -> "SlidingWindowLimiter":
        """Build from `limit` (micro-units) and `window_seconds`."""
        return cls(integer(params, "limit"), integer(params, "window_seconds") * MICRO)

    def charge(self, state: Totals | None, cost: int, now: int) -> tuple[Totals | None, Verdict]:
        """Count `cost` micro-units; a grant tells the whole units left."""
        limit, length = self.limit, self.length
        if state is None:
            start, previous, current = now - now % length, 0, 0
        else:
            start, previous, current = state
            if not start <= now < start + length:
                start, previous, current = roll(start, previous, current, now, length)
        if previous:
            free = (limit - current - cost) * length - previous * (length + start - now)
            if free >= 0:
                return (start, previous, current + cost), free // (length * MICRO)
        else:
            free = limit - current - cost
            if free >= 0:
                return (start, 0, current + cost), free // MICRO
        if state is not None and now < state[0]:
            state = (start, previous, current)
        return state, -self._retry(previous, current, cost, now - start)

    def _retry(self, previous: int, current: int, cost: int, elapsed: int) -> int:
        limit, length = self.limit, self.length
        if previous > 0 and current + cost <= limit:
            wait = length * (previous - limit + cost + current) - elapsed * previous
            return max(1, -(-wait // (previous * MICRO)))
        if cost > limit:
            return max(1, -((elapsed - 2 * length) // MICRO))
        over = max(0, current - limit + cost)
        wait = (length - elapsed) * current + length * over
        return max(1, -(-wait // (current * MICRO)))

    def undo(self, state: Totals | None, cost: int, charged_at: int, now: int) -> Totals | None:
        """Take the cost out of its window, if that still counts."""
        return None if state is None else give_back(state, cost, charged_at, self.length)

    def retract(
        self, state: Totals | None, cost: int, charged_at: int, now: int, verdict: Verdict
    ) -> Totals | None:
        """Undo what was granted; a refusal counted nothing."""
        return self.undo(state, cost, charged_at, now) if granted(verdict) else state

    def settle(
        self, state: Totals | None, reserved: int, actual: int, charged_at: int, now: int
    ) -> Totals | None:
        """Keep the charge: its cost was not an estimate."""
        return state

    def idle_at(self, state: Totals) -> int:
        """Return when neither window counts any more."""
        return forgotten_at(*state, self.length)
