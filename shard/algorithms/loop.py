"""Loop detection (§5.7): identical requests in a true sliding window.

    n = hits h with now - h < window, this one included;  detected iff n >= threshold

A hit exactly one window old does not count. Attempts are counted whatever becomes of the request,
refused ones too, and are taken back only by `retract`. At most max(threshold, 1000) hits are kept,
the newest, so n is exact up to there.

State: the times of the hits in epoch microseconds, oldest first. Almost every fingerprint is seen
once or twice, so a short history is a tuple (one hit: 80 bytes, a deque: 800); beyond 16 hits it
becomes a bounded deque, changed in place, whose appends do not grow with the threshold.

A clock that steps back takes the whole history back with it: the newest hit becomes `now`.
"""

from collections import deque
from dataclasses import dataclass

from protocol.operations import Verdict
from shard.algorithms.limiter import MICRO, Params, integer

State = tuple[int, ...] | deque[int]
_SHORT = 16
_REPORTED = 1000


@dataclass(frozen=True, slots=True)
class LoopLimiter:
    """`length` of the window in microseconds; `kept` bounds the history."""

    length: int
    threshold: int
    rejects: bool
    kept: int

    @classmethod
    def build(cls, params: Params) -> "LoopLimiter":
        """Build from `window_seconds`, `threshold` and `reject`."""
        threshold = integer(params, "threshold")
        return cls(
            length=integer(params, "window_seconds") * MICRO,
            threshold=threshold,
            rejects=bool(params["reject"]),
            kept=max(threshold, _REPORTED),
        )

    def charge(self, state: State | None, cost: int, now: int) -> tuple[State, Verdict]:
        """Count one request; refused ([-window, n]) only if the action is to reject."""
        hits: State
        if not state:
            hits = (now,)
        else:
            if state[-1] > now:
                state = _shifted(state, now - state[-1])
            hits = self._with(state, now)
        number = len(hits)
        if self.rejects and number >= self.threshold:
            return hits, [-(self.length // MICRO), number]
        return hits, number

    def _with(self, hits: State, now: int) -> State:
        """Return the history without what is too old and with `now`."""
        past = now - self.length
        if isinstance(hits, tuple):
            gone = 0
            while gone < len(hits) and hits[gone] <= past:
                gone += 1
            hits = (*hits[gone:], now)
            return hits if len(hits) <= _SHORT else deque(hits, maxlen=self.kept)
        if hits.maxlen != self.kept:  # the threshold was changed by a reload
            hits = deque(hits, maxlen=self.kept)
        while hits and hits[0] <= past:
            hits.popleft()
        hits.append(now)
        return hits if len(hits) > _SHORT // 2 else tuple(hits)

    def undo(self, state: State | None, cost: int, charged_at: int, now: int) -> State | None:
        """Keep the attempt: it was made (§5.2)."""
        return state

    def retract(
        self, state: State | None, cost: int, charged_at: int, now: int, verdict: Verdict
    ) -> State | None:
        """Forget one attempt made at `charged_at`."""
        if state is None or charged_at not in state:
            return state
        at = state.index(charged_at)
        if isinstance(state, tuple):
            return state[:at] + state[at + 1 :]
        del state[at]
        return state

    def settle(
        self, state: State | None, reserved: int, actual: int, charged_at: int, now: int
    ) -> State | None:
        """Keep the attempt: nothing was reserved."""
        return state

    def idle_at(self, state: State) -> int:
        """Return when the newest hit is one window old."""
        return state[-1] + self.length if state else 0


def _shifted(hits: State, by: int) -> State:
    moved = (hit + by for hit in hits)
    return tuple(moved) if isinstance(hits, tuple) else deque(moved, maxlen=hits.maxlen)
