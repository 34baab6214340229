"""Budget per calendar period (§5.5.3).

    u = usage + cost;  u > budget: refused, retry = max(1, ceil(period_end - now)), not charged
    otherwise usage = u and budget - u is left; exactly 100 % is granted

Stages (warn, throttle) follow from what is left and are the engine's. A reservation is settled in
its own period by `actual - reserved`, never below 0, beyond the budget if it must be (§11.2).

State: (start, end of the period in epoch microseconds, usage in micro-units). The bounds are the
calendar's own integers, shared by all counters of a period.
"""

from dataclasses import dataclass

from protocol.operations import Verdict
from protocol.periods import Calendar
from shard.algorithms.limiter import MICRO, Params, granted, integer

State = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class BudgetLimiter:
    """`budget` in micro-units; the calendar knows period and zone."""

    budget: int
    calendar: Calendar

    @classmethod
    def build(cls, params: Params) -> "BudgetLimiter":
        """Build from `budget` (micro-units), `period` and `timezone` (absent = UTC)."""
        calendar = Calendar(str(params["period"]), str(params.get("timezone") or "UTC"))
        return cls(integer(params, "budget"), calendar)

    def charge(self, state: State | None, cost: int, now: int) -> tuple[State | None, Verdict]:
        """Spend `cost` micro-units; a grant tells the micro-units left."""
        if state is not None and state[0] <= now < state[1]:
            start, end, usage = state
        else:
            start, end, usage = self._at(state, now)
        usage += cost
        left = self.budget - usage
        if left >= 0:
            return (start, end, usage), left
        if state is not None and now < state[0]:
            state = (start, end, usage - cost)
        return state, (now - end) // MICRO

    def _at(self, state: State | None, now: int) -> State:
        if state is None or now >= state[1]:
            return *self.calendar.at(now), 0
        if now < state[0]:
            return *self.calendar.at(now), state[2]
        return state

    def undo(self, state: State | None, cost: int, charged_at: int, now: int) -> State | None:
        """Take the cost out of its period, if that is the current one."""
        return self.settle(state, cost, 0, charged_at, now)

    def retract(
        self, state: State | None, cost: int, charged_at: int, now: int, verdict: Verdict
    ) -> State | None:
        """Undo what was granted; a refusal spent nothing."""
        return self.undo(state, cost, charged_at, now) if granted(verdict) else state

    def settle(
        self, state: State | None, reserved: int, actual: int, charged_at: int, now: int
    ) -> State | None:
        """Spend the difference in the reservation's own period; a past period is closed."""
        start, end, usage = self._at(state, now)
        if charged_at < start or (state is None and actual <= reserved):
            return state
        return start, end, max(0, usage + actual - reserved)

    def idle_at(self, state: State) -> int:
        """Return the end of the period, or its start if nothing is spent."""
        return state[1] if state[2] else state[0]
