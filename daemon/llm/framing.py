"""What a stream splitter gives: pieces that together are the stream, byte for byte."""

from typing import NamedTuple, Protocol

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""The longest event that is held back and read; a longer one passes unread."""


class Piece(NamedTuple):
    """One event: its exact bytes, its payload (None: nothing to read) and its SSE name."""

    raw: bytes
    data: bytes | None = None
    name: bytes = b""


class Splitter(Protocol):
    """Cuts a stream into pieces; equal for any division of the stream into chunks."""

    def feed(self, chunk: bytes) -> list[Piece]:
        """Take the next bytes; return the pieces they complete."""

    @property
    def between(self) -> bool:
        """Whether the last event is complete, so that the next byte begins another."""

    def end(self) -> list[Piece]:
        """Return what is left, terminated or not."""
