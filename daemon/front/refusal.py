"""Bytes of a client that are no request to be taken, and the answer to them (RFC 9112)."""

from typing import Final

UNAVAILABLE: Final = "503 Service Unavailable"
_RETRY: Final = b"Retry-After: 1\r\n"


class Refusal(Exception):  # noqa: N818 - an answer, not a fault of ours
    """The bytes are no request that we take; nothing after them can be read.

    `status` as sent, `why` as counted.
    """

    def __init__(self, status: str, reason: str, why: str = "malformed") -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason
        self.why = why

    def answer(self) -> bytes:
        """Return the whole answer, which is the last of its connection."""
        body = b'{"error":"%s"}' % self.reason.encode()
        return (
            b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
            b"%sConnection: close\r\n\r\n%s"
            % (
                self.status.encode(),
                len(body),
                _RETRY if self.status is UNAVAILABLE else b"",
                body,
            )
        )


def too_many_connections(words: str) -> Refusal:
    """Return what one connection too many is told."""
    return Refusal(UNAVAILABLE, words, "connections")


def too_many_bodies() -> Refusal:
    """Return what is told where all connections together hold too much of bodies."""
    return Refusal(UNAVAILABLE, "too many request bodies at once", "bodies")


def too_many_waiting() -> Refusal:
    """Return what is told where too many requests of a connection wait for their turn."""
    return Refusal("400 Bad Request", "too many pipelined requests", "pipelined")


def too_large() -> Refusal:
    """Return what is told of a head beyond its bound."""
    return Refusal("431 Request Header Fields Too Large", "request head too large", "head")
