"""LLM tokens per minute and per UTC day (§5.6 steps 3 to 5; settlement §11.2).

    minute: bucket of rate tpm/60 per second and capacity burst; e > t: refused,
            retry = max(1, ceil((e - t) / (tpm/60)))
    day:    u + e > tpd: refused, the minute keeps its tokens, retry = seconds to UTC midnight
    settle: diff = reserved - actual; minute: refill to now, + diff, at most burst (debt stays);
            day of the reservation: u - diff, never below 0, beyond tpd if it must be

The minute level is held in units of 1/60 micro-token: a microsecond adds tpm of them. The unit does
not depend on tpm, so a counter survives a change of its limit; only a tpm that is not whole takes
a unit a million times finer. The day counts whole tokens.

State: (level in 1/q micro-tokens, last in epoch microseconds, tokens used on the UTC day that
`last` falls on). Every change moves `last` and brings the day up to date, so the day needs no
field of its own.
"""

from dataclasses import dataclass

from protocol.operations import Verdict
from shard.algorithms.limiter import DAY_US, MICRO, Params, granted, integer

State = tuple[int, int, int]
_MINUTE_US = 60 * MICRO


@dataclass(frozen=True, slots=True)
class LlmLimiter:
    """Both budgets; the bucket in its own unit, 1/60 micro-token or finer.

    `full` is the capacity, `gain` (p) what a microsecond adds and `second` what a second adds,
    `token` the units of a token. `per_day` is in whole tokens.
    """

    full: int
    gain: int
    second: int
    token: int
    per_day: int | None

    @classmethod
    def build(cls, params: Params) -> "LlmLimiter":
        """Build from `tpm`, `burst` and `tpd` (None = no day limit), all in micro-tokens."""
        tpm, burst = integer(params, "tpm"), integer(params, "burst")
        gain, scale = (tpm, _MINUTE_US) if tpm % MICRO else (tpm // MICRO, 60)
        return cls(
            full=burst * scale,
            gain=gain,
            second=gain * MICRO,
            token=scale * MICRO,
            # used + cost is whole, so comparing with the floor is exact
            per_day=None if params.get("tpd") is None else integer(params, "tpd") // MICRO,
        )

    def charge(self, state: State | None, cost: int, now: int) -> tuple[State | None, Verdict]:
        """Reserve `cost` whole tokens in both budgets or in neither.

        Granted: [whole tokens left in the minute, left on the day or None]. Refused:
        [-retry, 0] by the minute, [-retry, 1, left on the day] by the day.
        """
        level, used = self._at(state, now)
        verdict: Verdict
        left = level - cost * self.token
        if left < 0:
            verdict = [left // self.second, 0]
        elif self.per_day is None:
            return (left, now, 0), [left // self.token, None]
        else:
            left_today = self.per_day - used
            if cost <= left_today:
                return (left, now, used + cost), [left // self.token, left_today - cost]
            midnight = now - now % DAY_US + DAY_US
            verdict = [(now - midnight) // MICRO, 1, max(0, left_today)]
        if state is not None and now < state[1]:
            state = (level, now, used)
        return state, verdict

    def _at(self, state: State | None, now: int) -> tuple[int, int]:
        if state is None:
            return self.full, 0
        level, last, used = state
        if now > last:
            level += (now - last) * self.gain
            if used and now // DAY_US != last // DAY_US:
                used = 0
        if level > self.full:  # noqa: PLR1730 - min() costs 50 ns more
            level = self.full  # also where a reload has lowered the burst at this very instant
        return level, used

    def undo(self, state: State | None, cost: int, charged_at: int, now: int) -> State | None:
        """Give the cost back to the minute, and to the day if it is still the charge's own."""
        return self.settle(state, cost, 0, charged_at, now)

    def retract(
        self, state: State | None, cost: int, charged_at: int, now: int, verdict: Verdict
    ) -> State | None:
        """Undo what was granted; a refusal reserved nothing."""
        return self.undo(state, cost, charged_at, now) if granted(verdict) else state

    def settle(
        self, state: State | None, reserved: int, actual: int, charged_at: int, now: int
    ) -> State | None:
        """Replace `reserved` tokens by the `actual` ones; the minute may end up in debt."""
        diff = reserved - actual
        if state is None and diff >= 0:
            return None
        level, used = self._at(state, now)
        level = min(level + diff * self.token, self.full)
        if self.per_day is not None and charged_at // DAY_US >= now // DAY_US:
            used = max(0, used - diff)
        return level, now, used

    def idle_at(self, state: State) -> int:
        """Return when the bucket is full again and the day, if it counts, is over."""
        level, last, used = state
        full_at = last - (level - self.full) // self.gain
        return max(full_at, last - last % DAY_US + DAY_US) if used else full_at
