"""A dictionary that forgets: what was not asked for lately goes first, in constant time.

Two generations, `young` and `old`. New and re-used entries stand in the young one; when it is
full it becomes the old one and the former old one is dropped whole. An entry in use is therefore
never lost to a flood of entries that are seen once, and nothing is ever sorted or scanned.
"""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Keep at most `limit` entries a generation and `weight_limit` units of weight.

    The bounds hold for each of the two generations, so the whole keeps at most twice as much.
    `None` is what `get` answers for an absent key: a value of `None` cannot be told from it.

    >>> cache = BoundedCache[str, int](limit=2)
    >>> cache.put("a", 1)
    >>> cache.get("a")
    1
    """

    __slots__ = ("_limit", "_old", "_weight", "_weight_limit", "_young")

    def __init__(self, limit: int, weight_limit: int | None = None) -> None:
        if limit < 1:
            raise ValueError("a cache holds at least one entry")
        self._limit = limit
        self._weight_limit = weight_limit
        self._weight = 0
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: K) -> V | None:
        """Return the value of `key`, which thereby counts as used, or None."""
        found = self._young.get(key)
        if found is not None:
            return found[0]
        # `pop`, not `get`: an entry stands in one generation only, so `len` is honest.
        found = self._old.pop(key, None)
        if found is None:
            return None
        self._insert(key, found)
        return found[0]

    def put(self, key: K, value: V, weight: int = 0) -> None:
        """Remember `value`; `weight` is in the units of `weight_limit` (say, bytes)."""
        self._old.pop(key, None)
        replaced = self._young.pop(key, None)
        if replaced is not None:
            self._weight -= replaced[1]
        self._insert(key, (value, weight))

    def _insert(self, key: K, entry: tuple[V, int]) -> None:
        too_heavy = self._weight_limit is not None and self._weight + entry[1] > self._weight_limit
        if too_heavy or len(self._young) >= self._limit:
            self._old = self._young
            self._young = {}
            self._weight = 0
        self._young[key] = entry
        self._weight += entry[1]
