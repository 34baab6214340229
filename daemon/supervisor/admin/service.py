"""The admin socket as a part of the running daemon: opened, served within bounds, closed."""

import logging
from dataclasses import dataclass

from daemon.admin_socket import AdminSocket
from daemon.engine.client_address import DEFAULT_TRUSTED_PROXIES, TrustedProxies
from daemon.front.census import Uncounted
from daemon.front.peers import PeerCounts
from daemon.front.server import Server
from daemon.supervisor.admin.api import MAX_BODY_BYTES, AdminApi
from daemon.supervisor.admin.listener import AdminListener, open_listener

log = logging.getLogger("fairvisor")

MAX_CONNECTIONS = 16
DRAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What one connection may take. One byte more of a body shows that it is too long."""

    max_head_bytes: int = 16 << 10
    max_body_bytes: int = MAX_BODY_BYTES + 1
    max_header_fields: int = 64
    max_pipelined: int = 16
    header_timeout: float = 5.0
    min_body_rate: int = 1 << 10
    send_timeout: float = 15.0
    idle_timeout: float = 15.0


class AdminService:
    """Serves the admin calls, if there is a socket to serve them on.

    Raises:
        ListenError: the user named a socket that cannot be had.
    """

    def __init__(self, where: AdminSocket) -> None:
        self._listener: AdminListener | None
        self._listener, self._warning = open_listener(where)
        self._server: Server | None = None

    async def start(self, api: AdminApi) -> None:
        """Begin to answer."""
        if self._listener is None:
            return
        trusted = TrustedProxies.parse(DEFAULT_TRUSTED_PROXIES)  # nothing here looks at addresses
        nobody = PeerCounts(MAX_CONNECTIONS)  # whoever is there is one user
        self._server = Server(
            api, _Bounds(), trusted, Uncounted(log), nobody, max_connections=MAX_CONNECTIONS
        )
        await self._server.listen([self._listener.sock])

    def announce(self) -> None:
        """Say where it is, or why there is none."""
        if self._listener is not None:
            log.info("admin socket at %s", self._listener.path)
        elif self._warning:
            log.warning("%s", self._warning)

    async def stop(self) -> None:
        """Take no more calls and finish those under way, for a moment."""
        self.remove()
        if self._server is not None:
            await self._server.drain(DRAIN_SECONDS)

    def remove(self) -> None:
        """Remove the socket's file."""
        if self._listener is not None:
            self._listener.remove()
