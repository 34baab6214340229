"""A front's listeners and its open connections: who is in, who is overdue, who is told to go."""

import asyncio
import socket

from daemon.engine.client_address import TrustedProxies
from daemon.front.http1 import NEVER, App, Bounds, HttpConnection

SWEEP_SECONDS = 0.5
"""How often deadlines are looked at; also the grain of the connections' clock."""
BACKLOG = 1024


class Server:
    """Accepts connections on inherited sockets and keeps them within their bounds."""

    def __init__(
        self, app: App, bounds: Bounds, trusted: TrustedProxies, max_connections: int
    ) -> None:
        self.app = app
        self.bounds = bounds
        self._trusted = trusted
        self._max_connections = max_connections
        self._loop = asyncio.get_running_loop()
        self.clock = self._loop.time()
        self._connections: set[HttpConnection] = set()
        self._servers: list[asyncio.Server] = []
        self.turned_away = 0

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
        self._connections.add(connection)
        if len(self._connections) > self._max_connections:
            self.turned_away += 1
            return False
        return True

    def closed(self, connection: HttpConnection) -> None:
        """Count a connection out."""
        self._connections.discard(connection)

    def is_trusted(self, peer: str) -> bool:
        """Return whether a socket peer's edge headers count (§4.2)."""
        return self._trusted.trusts(peer)

    def _sweep(self) -> None:
        now = self.clock = self._loop.time()
        for connection in [each for each in self._connections if each.deadline <= now]:
            connection.deadline = NEVER
            connection.expire()
        self._loop.call_later(SWEEP_SECONDS, self._sweep)

    async def drain(self, seconds: float) -> None:
        """Accept nothing new, finish what is being answered, close the rest."""
        for server in self._servers:
            server.close()
        for connection in tuple(self._connections):
            connection.finish()
        deadline = self._loop.time() + seconds
        while self._connections and self._loop.time() < deadline:
            await asyncio.sleep(0.02)
