"""The time by which counters are dropped as expired: the host's, once it can be believed (§13.5).

Theory
- To drop a counter is to forget what was spent. A clock that is wrong for a minute, at the start of
  a machine without a battery or in the hands of an operator, must not do that to counters that it
  does not touch: they still count when it has been set right.
- A clock that runs evenly for ten minutes is believed. Until then time goes on from the last moment
  that is sure: the newest stamp in the store, or what the clock showed before it jumped.
- A clock that jumps back is followed: less is dropped then, never more. What is dropped late costs
  memory for a while, within the bound that holds as ever.
"""

TRUST_US = 600_000_000
"""Microseconds that a clock has to run evenly after a jump forwards."""
JUMP_US = 60_000_000
"""Microseconds that a clock may gain at once without that being a jump."""


class CautiousClock:
    """Times in microseconds: `now` is the host's, `steady` a monotonic one's.

    `sure` is a time that has been, 0 if none is known: the first `now` is believed then.
    """

    __slots__ = ("_before", "_doubted_since", "_now", "_sure")

    def __init__(self, sure: int, steady: int) -> None:
        self._now = sure
        self._before = steady
        self._sure = sure
        self._doubted_since: int | None = None

    def at(self, now: int, steady: int) -> int:
        """Return the time by which to drop."""
        expected = self._now + steady - self._before
        if self._now and now - expected > JUMP_US:
            if self._doubted_since is None:
                self._sure = expected
            else:
                self._sure += steady - self._doubted_since
            self._doubted_since = steady
        self._now, self._before = now, steady
        if self._doubted_since is None:
            return now
        passed = steady - self._doubted_since
        if passed >= TRUST_US or now <= self._sure + passed:
            self._doubted_since = None
            return now
        return self._sure + passed
