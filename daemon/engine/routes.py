"""Which policies see a request (behaviour §3): an index, so that other policies cost nothing.

A prefix always ends in "/", so the prefixes that can match a path are the path's own beginnings up
to each "/": a few dictionary look-ups, whatever the number of policies.
"""

from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from protocol.bundle import Selector
from protocol.hosts import normalise_host
from protocol.paths import spellings

_CACHE_ENTRIES = 4096
_CACHED_CHARS = 512


class Routed(Protocol):
    """Anything with an id to order by and a selector to match."""

    @property
    def id(self) -> str:
        """Order among matching policies."""
        ...

    @property
    def selector(self) -> Selector:
        """Which requests it sees."""
        ...


T = TypeVar("T", bound=Routed)


class Routes(Generic[T]):
    """An index over policies; `find` returns the matching ones in byte order of their ids."""

    def __init__(self, policies: Iterable[T]) -> None:
        self._order = sorted(policies, key=lambda policy: policy.id.encode())
        self._exact: dict[str, list[int]] = {}
        self._prefix: dict[str, list[int]] = {}
        for index, policy in enumerate(self._order):
            selector = policy.selector
            if selector.path_exact is not None:
                self._exact.setdefault(selector.path_exact, []).append(index)
            if selector.path_prefix is not None:
                self._prefix.setdefault(selector.path_prefix, []).append(index)
        self._longest = max(map(len, self._prefix), default=0)
        self._found: dict[tuple[str, str, str], Sequence[T]] = {}

    def find(self, method: str, host: str, path: str) -> Sequence[T]:
        """Return the policies whose selector matches; `host` and `path` as sent, without query."""
        key = (method, host, path)
        found = self._found.get(key)
        if found is None:
            found = self._find(method, normalise_host(host), path)
            if len(path) + len(host) + len(method) <= _CACHED_CHARS:
                if len(self._found) >= _CACHE_ENTRIES:
                    self._found.clear()
                self._found[key] = found
        return found

    def _find(self, method: str, host: str, path: str) -> Sequence[T]:
        anchored = self._anchored(path)
        for other in spellings(path):
            anchored |= self._anchored(other)
        found = []
        for index in sorted(anchored):
            policy = self._order[index]
            selector = policy.selector
            if selector.methods is not None and method not in selector.methods:
                continue
            if selector.hosts is not None and host not in selector.hosts:
                continue
            found.append(policy)
        return tuple(found)

    def _anchored(self, path: str) -> set[int]:
        found = set(self._exact.get(path, ()))
        end = path.find("/")
        while 0 <= end < self._longest:
            found.update(self._prefix.get(path[: end + 1], ()))
            end = path.find("/", end + 1)
        return found
