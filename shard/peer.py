"""One socket of a shard: half-read frames, unsent bytes, and how far a front's link has come."""

import socket

from protocol.frames import FrameReader
from shard.unanswered import Unanswered


class Peer:
    """A connected socket. `out` may be sent; `fresh` are replies that are to be stored first.

    Of a front's link: its name, how many frames were applied and replied to, and what was charged
    that may not have been answered; `handed` are descriptors that came with its greeting.
    """

    __slots__ = (
        "applied",
        "blocked",
        "fresh",
        "handed",
        "link",
        "out",
        "reader",
        "replied",
        "sock",
        "unanswered",
    )

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reader = FrameReader()
        self.out = b""
        self.blocked = False
        self.link = b""
        self.applied = 0
        self.replied = 0
        self.fresh = b""
        self.unanswered: Unanswered | None = None
        self.handed: list[int] = []

    def told(self) -> tuple[object, ...]:
        """Return what the log is to say of the link, for this turn of the loop."""
        return (self.link, self.applied, self.replied, self.fresh) if self.link else ()
