"""A request as the engine sees it, whichever gateway or proxy it came through (behaviour §4.1)."""

from collections.abc import Mapping

import msgspec


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request to decide.

    `path` and `query` are as sent, apart at the first "?"; `host` is as sent (the engine
    normalises it); `headers` maps canonical names (lower case, "_" as "-") to raw values, the
    first of repeated ones, except `x-forwarded-for` whose lines are joined; `peer` is the socket
    peer's address or "" for a Unix socket; `trusted` says whether the peer may set edge headers
    (§4.2). `provider` is the wrapper provider ("" outside wrapper mode).
    """

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    query: str = ""
    host: str = ""
    peer: str = ""
    trusted: bool = True
    body: bytes = b""
    provider: str = ""
