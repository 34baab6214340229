"""What the ends of one child say: how long to wait before its next start, and whether it loops.

Rules
- Each wait is twice the one before, up to `MAX_BACKOFF`; a child that lived `STEADY_SECONDS` begins
  again with the shortest.
- `LOOP_ENDS` ends within `LOOP_SECONDS` are a crash loop: every wait is the longest until a child
  has lived for `LOOP_SECONDS`.
"""

import signal
from collections import deque

FIRST_BACKOFF = 0.05
MAX_BACKOFF = 5.0
STEADY_SECONDS = 10.0
"""A child that lived this long is restarted after the shortest wait."""
LOOP_ENDS = 5
LOOP_SECONDS = 60.0


class Endings:
    """The ends of one child. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self.looping = False
        self._ends: deque[float] = deque(maxlen=LOOP_ENDS)
        self._backoff = 0.0

    def ended(self, now: float, lived: float) -> float:
        """Note an end after `lived` seconds; return the wait before the next start."""
        self._ends.append(now)
        self.looping = (self.looping and lived < LOOP_SECONDS) or (
            len(self._ends) == LOOP_ENDS and now - self._ends[0] <= LOOP_SECONDS
        )
        self._backoff = MAX_BACKOFF if self.looping else next_backoff(self._backoff, lived)
        return self._backoff

    def calm(self, lives: float) -> bool:
        """Return True once: when a child that looped has lived long enough to be well again."""
        if not self.looping or lives < LOOP_SECONDS:
            return False
        self.looping = False
        self._ends.clear()
        return True


def next_backoff(backoff: float, lived: float) -> float:
    """Return the wait before the next start of a child that lived `lived` seconds."""
    if lived >= STEADY_SECONDS:
        return FIRST_BACKOFF
    return min(max(backoff * 2, FIRST_BACKOFF), MAX_BACKOFF)


def how_it_ended(code: int) -> str:
    """Return a process's return code in words; negative codes are signals."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
