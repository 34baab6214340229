"""What a connection needs from around it: bounds, someone who answers, and the roll call."""

import socket
from typing import TYPE_CHECKING, Protocol

from daemon.front.inbound import Inbound

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
    def max_header_fields(self) -> int:
        """Header lines of a request."""
        ...

    @property
    def max_pipelined(self) -> int:
        """Requests of one connection that may wait for their turn."""
        ...

    @property
    def header_timeout(self) -> float:
        """Seconds for a head to arrive, and for a body's next share."""
        ...

    @property
    def min_body_rate(self) -> int:
        """Bytes a second that a body must bring on average."""
        ...

    @property
    def send_timeout(self) -> float:
        """Seconds for a client to read what waits for it."""
        ...

    @property
    def idle_timeout(self) -> float:
        """Seconds between requests."""
        ...


class Census(Protocol):
    """Who counts what the bounds did, and the memory that all connections share."""

    def turned_away(self, reason: str, peer: str) -> None:
        """Hear of a connection that is one too many."""

    def refused(self, why: str) -> None:
        """Hear of bytes that were answered without being a request."""

    def closed(self, why: str) -> None:
        """Hear of a connection that used up its time."""

    def failed(self, error: Exception) -> None:
        """Hear of a request that could not be handled."""

    def keep(self, size: int) -> bool:
        """Set memory aside for a body; return False if there is none left."""
        ...

    def let_go(self, size: int) -> None:
        """Give such memory back."""


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

    @property
    def connections(self) -> int:
        """Open connections, as far as they are known."""
        ...

    async def listen(self, sockets: list[socket.socket], backlog: int, /) -> None:
        """Start to accept, on these sockets if there are any; so many may wait to be taken."""

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

    @property
    def census(self) -> Census:
        """Who is told of what the bounds did."""
        ...

    def opened(self, connection: "HttpConnection", peer: str, *, trusted: bool) -> str:
        """Count a connection in; return what to tell it if it is one too many, else ""."""
        ...

    def closed(self, connection: "HttpConnection") -> None:
        """Count a connection out."""

    def is_trusted(self, peer: str) -> bool:
        """Return whether a peer's edge headers count."""
        ...
