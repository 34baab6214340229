"""A front's listeners and its open connections: who is in, who is overdue, who is told to go."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from daemon.engine.client_address import TrustedProxies
from daemon.front.http1 import NEVER, HttpConnection
from daemon.front.surroundings import App, Bounds

SWEEP_SECONDS = 0.5
"""How often deadlines are looked at: a connection is closed up to twice this late, never early."""
BACKLOG = 1024
MAX_TURNED_AWAY = 256
"""Connections over the limit that may still be reading why; beyond that the oldest is cut."""
GRACE_SECONDS = 0.2
"""What a drain leaves idle connections for a request that is already on its way."""


class Server:
    """Accepts connections on inherited sockets and keeps them within their bounds.

    `turned_away` is called for every connection over the limit.
    """

    def __init__(
        self,
        app: App,
        bounds: Bounds,
        trusted: TrustedProxies,
        max_connections: int,
        turned_away: Callable[[], None],
    ) -> None:
        self.app = app
        self.bounds = bounds
        self._trusted = trusted
        self._max_connections = max_connections
        self._report = turned_away
        self._loop = asyncio.get_running_loop()
        self.clock = self._loop.time() + SWEEP_SECONDS
        self._connections: set[HttpConnection] = set()
        self._turned_away: dict[HttpConnection, None] = {}
        self._servers: list[asyncio.Server] = []
        self._draining = False
        self._left = asyncio.Event()

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Start to accept on bound sockets and to sweep."""
        for sock in sockets:
            create = (
                self._loop.create_unix_server
                if sock.family == socket.AF_UNIX
                else self._loop.create_server
            )
            server = await create(self._connection, sock=sock, backlog=BACKLOG)
            self._servers.append(server)
        self._sweep()

    def _connection(self) -> HttpConnection:
        return HttpConnection(self)

    def opened(self, connection: HttpConnection) -> bool:
        """Count a connection in; False if it is one too many."""
        if len(self._connections) < self._max_connections:
            self._connections.add(connection)
            if self._draining:
                connection.retire()
            return True
        self._report()
        if len(self._turned_away) >= MAX_TURNED_AWAY:
            oldest = next(iter(self._turned_away))
            del self._turned_away[oldest]
            oldest.cut()
        self._turned_away[connection] = None
        return False

    def closed(self, connection: HttpConnection) -> None:
        """Count a connection out."""
        self._connections.discard(connection)
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
