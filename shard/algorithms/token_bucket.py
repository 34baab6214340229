"""Token bucket (§5.5.2).

    t = min(t + elapsed * rate, burst);  t >= cost: t -= cost, granted, floor(t) left
    refused: retry = max(1, ceil((cost - t) / rate));  last = now either way

The rate is a fraction p/q of tokens per second, which is also micro-tokens per microsecond. Levels
are held in units of 1/q micro-token: a microsecond adds exactly p, and a cost is `cost * q`.

State: (level in 1/q micro-tokens, last in epoch microseconds); a new counter is full.
"""

from dataclasses import dataclass

from protocol.operations import Verdict
from shard.algorithms.limiter import MICRO, Params, granted, integer

State = tuple[int, int]


@dataclass(frozen=True, slots=True)
class TokenBucketLimiter:
    """A bucket in its own unit, 1/q micro-token.

    `full` is the capacity, `gain` (p) what a microsecond adds and `second` what a second adds,
    `scale` (q) the units of a micro-token and `token` those of a token.
    """

    full: int
    gain: int
    second: int
    scale: int
    token: int

    @classmethod
    def build(cls, params: Params) -> "TokenBucketLimiter":
        """Build from `rate_num`, `rate_den` (tokens per second) and `burst` (micro-tokens)."""
        gain, scale = integer(params, "rate_num"), integer(params, "rate_den")
        burst = integer(params, "burst")
        return cls(
            full=burst * scale, gain=gain, second=gain * MICRO, scale=scale, token=scale * MICRO
        )

    def charge(self, state: State | None, cost: int, now: int) -> tuple[State | None, Verdict]:
        """Take `cost` micro-tokens; a grant tells the whole tokens left.

        A refusal need not move `last`: refilling in one step or in two gives the same level.
        """
        # The hottest function of a shard: everything inline, 0.2 us.
        if state is None:
            left = self.full - cost * self.scale
            if left >= 0:
                return (left, now), left // self.token
            return None, left // self.second
        level, last = state
        if now > last:
            level += (now - last) * self.gain
        if level > self.full:  # noqa: PLR1730 - min() costs 50 ns more of 130
            level = self.full  # also where a reload has lowered the burst at this very instant
        left = level - cost * self.scale
        if left >= 0:
            return (left, now), left // self.token
        if now < last:
            state = (level, now)
        # the floor of a negative number: minus the seconds that are short, rounded up
        return state, left // self.second

    def undo(self, state: State | None, cost: int, charged_at: int, now: int) -> State | None:
        """Refill to `now`, then add the cost, never above the capacity."""
        if state is None:
            return None
        level, last = state
        level += max(0, now - last) * self.gain + cost * self.scale
        return (min(level, self.full), now)

    def retract(
        self, state: State | None, cost: int, charged_at: int, now: int, verdict: Verdict
    ) -> State | None:
        """Undo what was granted; a refusal took nothing."""
        return self.undo(state, cost, charged_at, now) if granted(verdict) else state

    def settle(
        self, state: State | None, reserved: int, actual: int, charged_at: int, now: int
    ) -> State | None:
        """Keep the charge: its cost was not an estimate."""
        return state

    def idle_at(self, state: State) -> int:
        """Return when the bucket is full again."""
        level, last = state
        return last - (level - self.full) // self.gain
