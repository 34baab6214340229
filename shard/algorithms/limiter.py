"""What every limiter is: five pure functions on the state of one counter.

Rules
- A state is an immutable tuple of integers, or `None` for a counter that does not exist yet and is
  fresh. Only a long loop history is a deque, changed in place.
- Amounts are integer micro-units (whole tokens for `token_bucket_llm`), times integer microseconds
  since the epoch. All arithmetic is exact; nothing is rounded but what a verdict reports.
- `None` comes back only where `None` went in. A counter that has become fresh again is recognised
  by `idle_at`, and removed by the sweep alone.
- A refusal returns the state that must be kept: the very object that was given if nothing changed.

Clocks that step back: a limiter never trusts a state from the future. A bucket adds nothing and
goes on from the new time (§5.5.2). Totals of a window, day or period that lies ahead are carried
into the one that `now` falls in: nothing spent is forgotten, nobody waits longer than from a fresh
start of that window, and what is carried counts as charged there if it is given back. Such a state
is kept even on a refusal, or it would be carried anew, and never age, until the clock caught up.
"""

from collections.abc import Mapping
from typing import Protocol, TypeVar

from protocol.operations import Verdict

MICRO = 1_000_000
"""Micro-units in a unit, microseconds in a second."""
DAY_US = 86_400 * MICRO

Param = int | str | bool | None
Params = Mapping[str, Param]

S = TypeVar("S")


class Limiter(Protocol[S]):
    """One limit, applied to the state of one counter at a time."""

    def charge(self, state: S | None, cost: int, now: int) -> tuple[S | None, Verdict]:
        """Evaluate one operation; return the state to keep and the verdict."""
        ...

    def undo(self, state: S | None, cost: int, charged_at: int, now: int) -> S | None:
        """Give back a charge granted at `charged_at`; others may have come in between (§5.2)."""
        ...

    def retract(
        self, state: S | None, cost: int, charged_at: int, now: int, verdict: Verdict
    ) -> S | None:
        """Take back an operation that one after the other would never have been evaluated.

        Unlike `undo` this also takes back what a refused operation left behind: a counted attempt,
        an opened breaker. `verdict` is what `charge` answered; of it only the sign counts, and for
        a breaker whether it opened.
        """
        ...

    def settle(
        self, state: S | None, reserved: int, actual: int, charged_at: int, now: int
    ) -> S | None:
        """Replace a reservation made at `charged_at` by what was used (§11.2).

        Limiters that never reserve return the state as it is.
        """
        ...

    def idle_at(self, state: S) -> int | None:
        """Return when the state will equal `None` and may be dropped; None = never by itself."""
        ...


def granted(verdict: Verdict) -> bool:
    """Tell whether a verdict granted its operation."""
    first = verdict if isinstance(verdict, int) else verdict[0]
    return first is not None and first >= 0


def integer(params: Params, name: str) -> int:
    """Return a whole-number parameter.

    Raises:
        TypeError: if it is absent or not an integer.
    """
    value = params.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"parameter {name!r} must be an integer, not {value!r}")
    return value
