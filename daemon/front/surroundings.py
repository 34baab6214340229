"""What a connection needs from around it: bounds, someone who answers, and the roll call."""

import socket
from typing import TYPE_CHECKING, Protocol

from daemon.front.request_reader import Inbound

if TYPE_CHECKING:
    from daemon.front.http1 import HttpConnection


class Bounds(Protocol):
    """The limits of §14 that concern one connection."""

    @property
    def max_head_bytes(self) -> int:
        """Bytes of a request line with its headers."""
        ...

    @property
    def max_body_bytes(self) -> int:
        """Bytes of a body that are kept."""
        ...

    @property
    def header_timeout(self) -> float:
        """Seconds for a whole request to arrive."""
        ...

    @property
    def idle_timeout(self) -> float:
        """Seconds between requests."""
        ...


class App(Protocol):
    """Whoever answers requests; must `respond`, or `open` and `end`, exactly once for each."""

    @property
    def verbatim(self) -> bool:
        """Whether requests are passed on, so that every byte of them is wanted."""
        ...

    def handle(self, connection: "HttpConnection", inbound: Inbound) -> None:
        """Answer a request, now or later."""


class Watcher(Protocol):
    """Whoever answers a request in pieces, until it has ended the answer."""

    def client_gone(self) -> None:
        """Stop: no answer can reach the client."""

    def client_full(self) -> None:
        """Hear that the client does not read as fast as it is written to."""

    def client_drained(self) -> None:
        """Hear that the client reads on."""

    def upload(self, chunk: bytes) -> None:
        """Take more of the request's body."""

    def upload_ended(self) -> None:
        """Hear that the request's body is complete."""


class Doors(Protocol):
    """Where requests come in."""

    async def listen(self, sockets: list[socket.socket], /) -> None:
        """Start to accept, on these sockets if there are any."""

    async def drain(self, seconds: float) -> None:
        """Accept nothing new, answer what is under way, cut what takes longer than `seconds`."""


class Server(Protocol):
    """What a connection shares with its siblings: bounds, the roll call, and a coarse clock.

    The clock is never behind the time and at most one sweep ahead of it, so that no deadline made
    from it comes early.
    """

    clock: float

    @property
    def app(self) -> App:
        """Who answers."""
        ...

    @property
    def bounds(self) -> Bounds:
        """What holds for each connection."""
        ...

    def opened(self, connection: "HttpConnection") -> bool:
        """Count a connection in; False if it is one too many."""
        ...

    def closed(self, connection: "HttpConnection") -> None:
        """Count a connection out."""

    def is_trusted(self, peer: str) -> bool:
        """Return whether a peer's edge headers count."""
        ...
