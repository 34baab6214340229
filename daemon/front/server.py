"""A front's listeners and its open connections: who is in, who is overdue, who is told to go."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from daemon.engine.client_address import TrustedProxies
from daemon.front.http1 import NEVER, HttpConnection
from daemon.front.peers import PeerCounts
from daemon.front.surroundings import App, Bounds, Census

SWEEP_SECONDS = 0.5
"""How often deadlines are looked at: a connection is closed up to twice this late, never early."""
BACKLOG = 1024
GRACE_SECONDS = 0.2
"""What a drain leaves idle connections for a request that is already on its way."""


class Server:
    """Accepts connections on inherited sockets and keeps them within their bounds.

    `census` hears of connections that are refused or ended. `peers` is shared by the servers of a
    process. At most `max_turned_away` of the refused may still be reading why; beyond that the
    oldest is cut.
    """

    def __init__(  # noqa: PLR0913 - who answers, who may come, and who is told
        self,
        app: App,
        bounds: Bounds,
        trusted: TrustedProxies,
        census: Census,
        peers: PeerCounts,
        *,
        max_connections: int,
        max_turned_away: int = 256,
    ) -> None:
        self.app = app
        self.bounds = bounds
        self.census = census
        self._trusted = trusted
        self._peers = peers
        self._max_connections = max_connections
        self._max_turned_away = max_turned_away
        self._loop = asyncio.get_running_loop()
        self.clock = self._loop.time() + SWEEP_SECONDS
        self._connections: dict[HttpConnection, str | bytes] = {}
        self._turned_away: dict[HttpConnection, None] = {}
        self._servers: list[asyncio.Server] = []
        self._draining = False
        self._left = asyncio.Event()

    @property
    def connections(self) -> int:
        """How many clients are in."""
        return len(self._connections)

    async def listen(self, sockets: list[socket.socket], backlog: int = BACKLOG) -> None:
        """Start to accept on bound sockets and to sweep."""
        for sock in sockets:
            create = (
                self._loop.create_unix_server
                if sock.family == socket.AF_UNIX
                else self._loop.create_server
            )
            factory = cast("Callable[[], asyncio.Protocol]", self._connection)
            server = await create(factory, sock=sock, backlog=backlog)
            self._servers.append(server)
        self._sweep()

    def _connection(self) -> HttpConnection:
        return HttpConnection(self)

    def opened(self, connection: HttpConnection, peer: str, *, trusted: bool) -> str:
        """Count a connection in; return what to tell it if it is one too many, else ""."""
        who: str | bytes | None = ""
        full = "listener"
        if len(self._connections) < self._max_connections:
            if not trusted:
                full, who = "peer", self._peers.enter(peer)
            if who is not None:
                self._connections[connection] = who
                if self._draining:
                    connection.retire()
                return ""
        self.census.turned_away(full, peer)
        if len(self._turned_away) >= self._max_turned_away:
            oldest = next(iter(self._turned_away))
            del self._turned_away[oldest]
            oldest.cut()
        self._turned_away[connection] = None
        return _TOO_MANY[full]

    def closed(self, connection: HttpConnection) -> None:
        """Count a connection out."""
        who = self._connections.pop(connection, "")
        if who:
            self._peers.leave(who)
        self._turned_away.pop(connection, None)
        self._left.set()

    def is_trusted(self, peer: str) -> bool:
        """Return whether a socket peer's edge headers count (§4.2)."""
        return self._trusted.trusts(peer)

    def _sweep(self) -> None:
        now = self._loop.time()
        self.clock = now + SWEEP_SECONDS
        for connection in [*self._connections, *self._turned_away]:
            if connection.deadline <= now:
                connection.deadline = NEVER
                connection.expire()
        self._loop.call_later(SWEEP_SECONDS, self._sweep)

    async def drain(self, seconds: float) -> None:
        """Accept nothing new, answer what is under way, cut what takes longer than `seconds`."""
        self._draining = True
        deadline = self._loop.time() + seconds
        for server in self._servers:
            server.close()
        for connection in self._connections:
            connection.retire()
        # Also where there is none: one that was accepted just now is still to come.
        await asyncio.sleep(GRACE_SECONDS)
        for connection in tuple(self._connections):
            connection.finish()
        while self._connections and self._loop.time() < deadline:
            self._left.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), deadline - self._loop.time())
        for connection in [*self._connections, *self._turned_away]:
            connection.cut()
        await asyncio.sleep(0)  # for the transports to end


_TOO_MANY = {
    "listener": "too many connections",
    "peer": "too many connections from this address",
}
