"""Spend circuit breaker (§5.8).

    closed: w = floor(now / 60 s) * 60 s; the cost is added to w;
            rate = prev * (1 - (now - w) / 60 s) + cur;  rate >= threshold: opens, refused, and the
            cost of this very request is taken out again
    open:   refused without counting until now - opened >= auto_reset; then closed, and evaluated
            as such: totals older than the opening still count.  auto_reset 0: by hand only
    retry = max(1, ceil(seconds left until auto reset)), 60 without one

Resetting by hand (§17) clears state and totals. What was charged before is then gone and cannot be
given back: a request that was in flight during the reset would take it from what others charged
since. So a reset leaves its time behind, for as long as such a charge could still be given back.

State: (start of the current minute in epoch microseconds, prev, cur in micro-units, opened in
epoch microseconds or -1 while closed, since: the last reset by hand or 0).
"""

from dataclasses import dataclass

from protocol.operations import Verdict
from shard.algorithms.limiter import MICRO, Params, granted, integer
from shard.algorithms.windows import forgotten_at, give_back, roll

State = tuple[int, int, int, int, int]
CLOSED = -1
_MINUTE_US = 60 * MICRO
_RETRY_BY_HAND = 60


@dataclass(frozen=True, slots=True)
class BreakerLimiter:
    """`threshold` in micro-units per minute, `auto_reset` in microseconds (0 = by hand)."""

    threshold: int
    auto_reset: int

    @classmethod
    def build(cls, params: Params) -> "BreakerLimiter":
        """Build from `threshold` (micro-units per minute) and `auto_reset` (microseconds)."""
        return cls(integer(params, "threshold"), integer(params, "auto_reset"))

    def charge(self, state: State | None, cost: int, now: int) -> tuple[State | None, Verdict]:
        """Count `cost` micro-units while closed.

        Granted: the spend rate, floored micro-units per minute. Refused:
        [-retry, 1 if this request opened it, rate]; the rate of an open breaker leaves the request
        out, that of an opening one includes it.
        """
        if state is None:
            state = (now, 0, 0, CLOSED, 0)
        opened = state[3]
        if opened != CLOSED and not (self.auto_reset and now - opened >= self.auto_reset):
            if now < opened:
                opened = now
                state = (*state[:3], opened, state[4])
            rate = _rate(*roll(*state[:3], now, _MINUTE_US), now)
            return state, [-self._retry(now - opened), 0, rate]
        start, previous, current = roll(*state[:3], now, _MINUTE_US)
        since = min(state[4], now)
        rate = _rate(start, previous, current + cost, now)
        if rate >= self.threshold:
            return (start, previous, current, now, since), [-self._retry(0), 1, rate]
        return (start, previous, current + cost, CLOSED, since), rate

    def opened(self, state: State | None, now: int) -> tuple[int, int | None] | None:
        """Return when an open breaker opened and when it resets itself; None while closed."""
        if state is None or state[3] == CLOSED:
            return None
        opened = min(state[3], now)
        if not self.auto_reset:
            return opened, None
        resets = opened + self.auto_reset
        return (opened, resets) if now < resets else None

    def reset(self, now: int) -> State:
        """Return the state of a breaker that is reset by hand.

        `now` must lie after every charge made so far, and not after any that is still to come.
        """
        return now, 0, 0, CLOSED, now

    def _retry(self, open_for: int) -> int:
        if not self.auto_reset:
            return _RETRY_BY_HAND
        return max(1, -((open_for - self.auto_reset) // MICRO))

    def undo(self, state: State | None, cost: int, charged_at: int, now: int) -> State | None:
        """Take the cost out of its minute; an open breaker stays open (§5.2)."""
        if state is None or charged_at < state[4]:
            return state
        return *give_back(state[:3], cost, charged_at, _MINUTE_US), *state[3:]

    def retract(
        self, state: State | None, cost: int, charged_at: int, now: int, verdict: Verdict
    ) -> State | None:
        """Undo what was granted; close what this very request opened."""
        if granted(verdict):
            return self.undo(state, cost, charged_at, now)
        opened_it = not isinstance(verdict, int) and verdict[1:2] == [1]
        if state is None or not opened_it or state[3] != charged_at:
            return state
        return *state[:3], CLOSED, state[4]

    def settle(
        self, state: State | None, reserved: int, actual: int, charged_at: int, now: int
    ) -> State | None:
        """Keep the charge: the breaker counts estimates."""
        return state

    def idle_at(self, state: State) -> int | None:
        """Return when the totals are forgotten and the breaker, if open, has reset itself."""
        start, previous, current, opened, since = state
        forgotten = forgotten_at(start, previous, current, _MINUTE_US)
        if since:
            forgotten = max(forgotten, since + 2 * _MINUTE_US)
        if opened == CLOSED:
            return forgotten
        return max(forgotten, opened + self.auto_reset) if self.auto_reset else None


def _rate(start: int, previous: int, current: int, now: int) -> int:
    return current + previous * (_MINUTE_US + start - now) // _MINUTE_US
