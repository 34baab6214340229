"""What follows from a request's head alone: worked out once for a head that comes again.

A client's requests have nearly the same head. What is worked out stays with the head for as long as
that is remembered (`plain_requests`), and is bounded by it.
"""

from collections.abc import Mapping
from typing import Final, final

from daemon.engine.engine import Engine
from daemon.front.inbound import Inbound
from daemon.front.proxy.asked import Asked
from daemon.front.proxy.heads import RequestHeads
from daemon.front.proxy.route import Route
from daemon.front.proxy.surroundings import Surroundings
from protocol.decision import Decision

_MAX_PEERS: Final = 32
"""Clients with the same head whose upstream heads are kept."""
_LENGTH: Final = b"content-length"


@final
class Passage:
    """The way of one head. `path`, `query` and `host` are text as the engine reads it.

    `asked` is what the head says of the response, as long as nothing depends on that.
    """

    __slots__ = (
        "_engine", "_heads", "_method", "_unseen", "asked", "host", "path", "pool", "query",
        "route", "surroundings",
    )  # fmt: skip

    def __init__(self, surroundings: Surroundings, inbound: Inbound, route: Route) -> None:
        path, _, query = inbound.target.partition(b"?")
        self.surroundings = surroundings
        self.route = route
        self.path = _text(path)
        self.query = _text(query)
        self.host = _text(inbound.headers.get(b"host", b""))
        accept = inbound.headers.get(b"accept", b"").decode("latin-1")
        self.asked = Asked(inbound.method, self.path, accept, inbound.modern, route.family)
        self.pool = surroundings.pools.pool(route.upstream)
        self._heads: dict[tuple[str, RequestHeads], bytes] = {}
        self._method = inbound.method
        self._engine: Engine | None = None
        self._unseen: Decision | None = None

    def unseen(self, engine: Engine) -> Decision | None:
        """Return what the engine decides if no policy sees the request, else None."""
        if engine is not self._engine:
            self._unseen = engine.unseen(self._method, self.host, self.path)
            self._engine = engine
        return self._unseen

    def headers(self, inbound: Inbound) -> Mapping[bytes, bytes]:
        """Return what the engine may read of a request with this head."""
        headers = self.route.headers
        length = inbound.headers.get(_LENGTH)
        if length is None or headers.get(_LENGTH) == length:
            return headers
        return {**headers, _LENGTH: length}

    def head(self, heads: RequestHeads, inbound: Inbound) -> bytes:
        """Return the head for the upstream, without what tells the body's length."""
        known = self._heads.get(key := (inbound.peer, heads))
        if known is None:
            if len(self._heads) >= _MAX_PEERS:
                self._heads.clear()
            known = self._heads[key] = heads.begin(self.route, inbound)
        return known


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
