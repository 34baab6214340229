"""The two sides of a link: the socket to the shard, and whoever asked it something."""

import asyncio
from typing import TYPE_CHECKING, Protocol

from protocol.frames import FrameError, FrameReader

if TYPE_CHECKING:
    from daemon.front.links import Link


class Owner(Protocol):
    """Whoever asked a shard something."""

    def reply(self, shard: int, charged_at: int, reply: object) -> None:
        """Take the shard's reply."""

    def late(self, shard: int, charged_at: int, reply: object) -> None:
        """Take a reply that came after `unavailable`."""

    def unavailable(self, shard: int) -> None:
        """Go on without this shard."""


class LinkSocket(asyncio.Protocol):
    """The socket's side of a link."""

    __slots__ = ("_link", "_reader", "_transport")

    def __init__(self, link: "Link") -> None:
        self._link = link
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = transport  # type: ignore[assignment]  # a stream's transport
        self._link.opened(transport)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        """Hand over the replies that have come."""
        try:
            for message in self._reader.feed(data):
                self._link.received(message)
        except FrameError as error:
            # What the shard says cannot be trusted any more; start afresh.
            self._link.complain(str(error))
            if self._transport is not None:
                self._transport.abort()

    def pause_writing(self) -> None:
        """Add nothing more for now."""
        self._link.full(full=True)

    def resume_writing(self) -> None:
        """Go on."""
        self._link.full(full=False)

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell the link."""
        self._link.dropped()
