"""A request as it came in, and what is known of its head."""

from collections.abc import Mapping, Sequence
from typing import final

import msgspec


@final
class PlainHead:
    """The head of a plain request. `headers` by name in lower case; none is repeated.

    `length` is its Content-Length, -1 without one; a head that is kept stands for all that differ
    in this number only. `passage` is for whoever works out more that holds for each of them.
    """

    __slots__ = ("headers", "length", "method", "passage", "raw", "target")

    def __init__(
        self,
        method: str,
        target: bytes,
        headers: dict[bytes, bytes],
        raw: list[tuple[bytes, bytes]],
        length: int,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.raw = raw
        self.length = length
        self.passage: object | None = None


class Inbound(msgspec.Struct, eq=False):
    """One request as it came in: `target` in origin form, `headers` canonical.

    `raw` holds every field as sent, () unless the reader is verbatim; `unfinished` says that more
    of the body will follow, `modern` that the client speaks HTTP/1.1. `head` is what is known of a
    head that was plain.
    """

    method: str
    target: bytes
    headers: Mapping[bytes, bytes]
    body: bytes
    peer: str
    trusted: bool
    raw: Sequence[tuple[bytes, bytes]] = ()
    unfinished: bool = False
    modern: bool = True
    head: PlainHead | None = None

    def __repr__(self) -> str:
        """Show no more than the method: all else may hold secrets."""
        return f"Inbound({self.method})"
