"""Who hangs: children that are asked for a sign of life and give none (behaviour §13.3). Pure.

Rules
- Every child is asked at each look unless it still owes an answer. Whatever it says is an answer.
- One that has owed it for its patience is hung. What is busy for a good reason (it starts, restores
  counters, compiles a bundle, folds logs) has `BUSY` times the patience, and says that it lives in
  between where that can take long.
- A watchdog that was late itself (stopped, starved, a machine that was frozen) has seen nothing:
  all that is owed counts from now. Answers that came meanwhile are still to be read.
- Times are monotonic, so that a clock that is set changes nothing.
"""

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

BUSY = 6
"""How many times longer than others a busy child may be silent."""
_LOOKS = 4
_LONGEST_NAP = 1.0

Child = TypeVar("Child", bound=Hashable)


class Watchdog(Generic[Child]):
    """What children owe. `seconds` is the patience with one that is not busy; 0: all are well."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._owed: dict[Child, float] = {}
        self._looked: float | None = None

    @property
    def nap(self) -> float:
        """Seconds between looks."""
        return min(self.seconds / _LOOKS, _LONGEST_NAP) if self.seconds else _LONGEST_NAP

    def heard(self, child: Child) -> None:
        """Hear that a child lives, or is gone: it owes nothing."""
        self._owed.pop(child, None)

    def look(
        self, now: float, children: Iterable[tuple[Child, bool]]
    ) -> tuple[list[Child], list[Child]]:
        """Return whom to ask, and who hangs, of children and whether they are busy."""
        if not self.seconds:
            return [], []
        if self._looked is not None and now - self._looked > self.seconds / 2:
            self._owed = dict.fromkeys(self._owed, now)
        self._looked = now
        ask: list[Child] = []
        hung: list[Child] = []
        for child, busy in children:
            since = self._owed.get(child)
            if since is None:
                self._owed[child] = now
                ask.append(child)
            elif now - since >= self.seconds * (BUSY if busy else 1):
                hung.append(child)
        return ask, hung
