"""What answers lately used, so that a reservation need not be the worst case (an option of §5.6).

The estimate for a policy and a model is the smallest number of completion tokens that at least 95 %
of the last 200 settled answers did not exceed (the nearest-rank percentile, without interpolation).
Until 20 are known there is none. It only ever lowers a reservation; what an answer uses beyond it
is charged when it is settled, as every overrun is.

One such memory belongs to each front, and learns from what that front settles.
"""

from bisect import bisect_left, insort
from collections import deque
from hashlib import blake2b

from daemon.engine.bounded_cache import BoundedCache

SAMPLES = 200
ENOUGH = 20
PERCENT = 95
MAX_PAIRS = 256
"""Pairs of policy and model in each of the cache's two generations: 10 kB each, 5 MB in all."""

TAG_BYTES = 6


def model_tag(model: str | None) -> bytes:
    """Return what stands for a model in keys and reservation ids: 48 bits of its hash."""
    return blake2b((model or "").encode("utf-8", "surrogatepass"), digest_size=TAG_BYTES).digest()


class LearnedCompletions:
    """The last answers of each policy and model, the longest-unused pairs forgotten first.

    >>> learned = LearnedCompletions()
    >>> for tokens in range(1, 101):
    ...     learned.note("chat", model_tag("small"), tokens)
    >>> learned.estimate("chat", model_tag("small"))
    95
    """

    __slots__ = ("_windows",)

    def __init__(self, pairs: int = MAX_PAIRS) -> None:
        self._windows: BoundedCache[tuple[str, bytes], _Window] = BoundedCache(pairs)

    def note(self, policy: str, model: bytes, completion: int) -> None:
        """Remember the completion tokens of one settled answer."""
        key = (policy, model)
        window = self._windows.get(key)
        if window is None:
            window = _Window()
            self._windows.put(key, window)
        window.note(completion)

    def estimate(self, policy: str, model: bytes) -> int | None:
        """Return the completion tokens to expect, at least 1; None while too little is known."""
        window = self._windows.get((policy, model))
        return window.estimate if window is not None else None


class _Window:
    """The last answers of one pair, in their order and by size."""

    __slots__ = ("_by_size", "_in_order", "estimate")

    def __init__(self) -> None:
        self._in_order: deque[int] = deque()
        self._by_size: list[int] = []
        self.estimate: int | None = None

    def note(self, completion: int) -> None:
        if len(self._in_order) == SAMPLES:
            del self._by_size[bisect_left(self._by_size, self._in_order.popleft())]
        self._in_order.append(completion)
        insort(self._by_size, completion)
        count = len(self._by_size)
        if count >= ENOUGH:
            rank = -(-count * PERCENT // 100)
            self.estimate = max(1, self._by_size[rank - 1])
