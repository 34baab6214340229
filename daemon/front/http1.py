"""HTTP/1.1 in (RFC 9112): bytes from one client connection to complete requests, answers in order.

Rules
- Parsing is llhttp's, strict: bad framing, and Content-Length beside Transfer-Encoding, end the
  connection with 400. What llhttp leaves open is bounded here: head size, number of headers and
  pipelined requests, body size, time.
- One request of a connection is decided at a time; pipelined ones wait their turn, so answers keep
  their order. While a client does not read its answers, nothing more is read from it.
- Header names are canonical: lower case, "_" as "-". The first of repeated headers counts, except
  X-Forwarded-For, whose lines are joined; a second Host is an error.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Protocol

import httptools

MAX_HEADERS = 128
MAX_PIPELINED = 64
"""Requests of one connection that may wait for their turn."""
NEVER = float("inf")

_CANONICAL_ENTRIES = 4096


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
    """Whoever answers requests; must call `connection.respond` exactly once for each."""

    def handle(self, connection: "HttpConnection", inbound: "Inbound") -> None:
        """Answer a request, now or later."""


class Server(Protocol):
    """What a connection shares with its siblings: a coarse clock, bounds, and the roll call."""

    app: App
    bounds: Bounds
    clock: float

    def opened(self, connection: "HttpConnection") -> bool:
        """Count a connection in; False if it is one too many."""
        ...

    def closed(self, connection: "HttpConnection") -> None:
        """Count a connection out."""

    def is_trusted(self, peer: str) -> bool:
        """Return whether a peer's edge headers count."""
        ...


class Inbound:
    """One complete request as it came in. `target` as sent, `headers` canonical."""

    __slots__ = ("body", "headers", "method", "peer", "target", "trusted")

    def __init__(  # noqa: PLR0913 - one value per part of a request
        self,
        method: str,
        target: bytes,
        headers: Mapping[bytes, bytes],
        body: bytes,
        peer: str,
        *,
        trusted: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.peer = peer
        self.trusted = trusted


class _Refused(Exception):  # noqa: N818 - ends a parse, never seen by a caller
    """The request breaks a bound; the connection answers and closes."""

    def __init__(self, status: str, reason: str) -> None:
        self.status = status
        self.reason = reason


class HttpConnection(asyncio.Protocol):
    """One client connection. `deadline` is when the server's sweep closes it."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_busy",
        "_closing",
        "_delay",
        "_fed",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_in_message",
        "_last",
        "_method",
        "_parser",
        "_paused",
        "_queue",
        "_server",
        "_target",
        "_transport",
        "deadline",
        "peer",
        "trusted",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[Inbound, bool, bytes]] = deque()
        self._busy: tuple[bool, bytes, bool] | None = None
        self._closing = False
        self._delay: asyncio.TimerHandle | None = None
        self._last = False
        self._paused = False
        self._in_head = False
        self._in_message = False
        self._fed = 0
        self._begin()
        self.deadline = NEVER
        self.peer = ""
        self.trusted = False

    def _begin(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a new connection, or turn it away when there are too many."""
        self._transport = transport  # type: ignore[assignment]  # a stream's transport
        address = transport.get_extra_info("peername")
        self.peer = address[0] if isinstance(address, tuple) else ""
        self.trusted = self._server.is_trusted(self.peer)
        self.deadline = self._server.clock + self._server.bounds.header_timeout
        if not self._server.opened(self):
            self._refuse("503 Service Unavailable", "too many connections")

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget a connection that is gone."""
        self._transport = None
        self._queue.clear()
        if self._delay is not None:
            self._delay.cancel()
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; requests come out through its callbacks."""
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request asked to change protocols; it has been answered as what it is, and what
            # follows it on this connection cannot be HTTP.
            self._closing = True
        except httptools.HttpParserCallbackError as error:
            refused = error.__context__
            if not isinstance(refused, _Refused):
                raise
            self._refuse(refused.status, refused.reason)
        except httptools.HttpParserError:
            self._refuse("400 Bad Request", "malformed request")
        else:
            if self._in_head:
                self._fed += len(data)
                if self._fed > self._server.bounds.max_head_bytes:
                    self._refuse("431 Request Header Fields Too Large", "request head too large")

    def eof_received(self) -> bool:
        """Let answers under way still be written to a client that closed its sending side."""
        return self._busy is not None

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read."""
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on once the client has read."""
        self._paused = False
        if self._transport is not None:
            self._transport.resume_reading()

    # llhttp's side

    def on_message_begin(self) -> None:
        """Start a request's clock."""
        if self._busy is None:
            self.deadline = self._server.clock + self._server.bounds.header_timeout
        self._in_head = True
        self._in_message = True
        self._fed = 0
        self._begin()

    def on_url(self, url: bytes) -> None:
        """Collect the request target, which may come in pieces."""
        self._target += url
        self._head_bytes += len(url)
        if self._head_bytes > self._server.bounds.max_head_bytes:
            raise _Refused("431 Request Header Fields Too Large", "request head too large")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        self._head_bytes += len(name) + len(value)
        if not self._in_head:
            return  # a trailer must not pose as a header
        key = _canonical.get(name) or canonical_name(name)
        headers = self._headers
        if key not in headers:
            headers[key] = value
            return
        if key == b"x-forwarded-for":
            headers[key] += b", " + value
        elif key == b"host":
            raise _Refused("400 Bad Request", "more than one Host header")

    def on_headers_complete(self) -> None:
        """Check the head's bounds before any of the body is read."""
        self._in_head = False
        if (
            self._head_bytes > self._server.bounds.max_head_bytes
            or len(self._headers) > MAX_HEADERS
        ):
            raise _Refused("431 Request Header Fields Too Large", "request head too large")
        if b"expect" in self._headers and self._busy is None and self._transport is not None:
            if self._headers[b"expect"].lower() != b"100-continue":
                raise _Refused("417 Expectation Failed", "unknown expectation")
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, chunk: bytes) -> None:
        """Keep the body up to its bound; the excess is not looked at (§4.1)."""
        room = self._server.bounds.max_body_bytes - self._body_bytes
        if room > 0:
            self._body.append(chunk[:room])
            self._body_bytes += min(len(chunk), room)

    def on_message_complete(self) -> None:
        """Hand a complete request over, or queue it behind the one being decided."""
        self._in_message = False
        parser = self._parser
        version = parser.get_http_version()
        if version == "1.1":
            if b"host" not in self._headers:
                raise _Refused("400 Bad Request", "no Host header")
        elif version != "1.0":
            raise _Refused("505 HTTP Version Not Supported", "HTTP/1.0 or HTTP/1.1 only")
        method = parser.get_method()
        inbound = Inbound(
            method.decode("latin-1"),
            self._target,
            self._headers,
            b"".join(self._body) if self._body else b"",
            self.peer,
            trusted=self.trusted,
        )
        keep = parser.should_keep_alive() and not self._last
        connection = b"" if keep and version == "1.1" else _CONNECTION[keep]
        if self._busy is None:
            self._dispatch(inbound, keep, connection)
        elif len(self._queue) < MAX_PIPELINED:
            self._queue.append((inbound, keep, connection))
        else:
            raise _Refused("400 Bad Request", "too many pipelined requests")

    def _dispatch(self, inbound: Inbound, keep: bool, connection: bytes) -> None:  # noqa: FBT001
        self._busy = (keep, connection, inbound.method == "HEAD")
        self.deadline = NEVER
        self._server.app.handle(self, inbound)

    # the app's side

    @property
    def gone(self) -> bool:
        """Whether the client has left, so that no answer can reach it."""
        return self._transport is None

    def respond(self, head: bytes, body: bytes = b"") -> None:
        """Answer the request being decided.

        `head` is the status line and fields, each ended by CRLF, without Connection and the final
        empty line.
        """
        transport = self._transport
        busy = self._busy
        if transport is None or busy is None:
            return
        keep, connection, headless = busy
        self._busy = None
        transport.write(
            b"".join((head, connection, b"\r\n", b"" if headless else body))
            if connection or body
            else head + b"\r\n"
        )
        if not keep or ((self._closing or self._last) and not self._queue):
            self._closing = True
            self._queue.clear()
            transport.close()
            return
        server = self._server
        self.deadline = server.clock + server.bounds.idle_timeout
        if self._queue:
            self._dispatch(*self._queue.popleft())

    def wait(self, delay: asyncio.TimerHandle) -> None:
        """Let a delayed answer be forgotten when the client leaves."""
        self._delay = delay

    def finish(self) -> None:
        """Close as soon as nothing is arriving or being answered (drain)."""
        self._last = True
        if self._busy is None and not self._in_message and self._transport is not None:
            self._closing = True
            self._transport.close()

    def expire(self) -> None:
        """Close a connection that used up its time: 408 in mid-request, silently when idle."""
        if self._transport is None:
            return
        if self._paused:
            self._transport.abort()  # what it does not read will never be flushed
        elif self._in_message:
            self._refuse("408 Request Timeout", "request took too long to arrive")
        else:
            self._transport.close()

    def _refuse(self, status: str, reason: str) -> None:
        transport = self._transport
        if transport is None or self._closing:
            return
        self._closing = True
        self._queue.clear()
        if self._busy is None:
            body = b'{"error":"%s"}' % reason.encode()
            transport.write(
                b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                b"Connection: close\r\n\r\n%s" % (status.encode(), len(body), body)
            )
            transport.close()


_CONNECTION = {True: b"Connection: keep-alive\r\n", False: b"Connection: close\r\n"}

_canonical: dict[bytes, bytes] = {}
"""Names as sent to canonical names: most clients send the same few. Bounded."""


def canonical_name(name: bytes) -> bytes:
    """Return a header name in lower case with "_" as "-" (§4.1)."""
    key = name.lower().replace(b"_", b"-")
    if len(_canonical) < _CANONICAL_ENTRIES:
        _canonical[name] = key
    return key
