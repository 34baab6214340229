"""Bytes of an upstream's connection to one response (RFC 9112): its head, pieces of its body.

Informational responses are skipped. A response that answers HEAD, or is 204 or 304, has no body;
without a length a body ends with the connection. What follows a complete response is nobody's, and
its connection cannot be used again.
"""

import httptools

from daemon.front.upstream_caller import ResponseHead
from daemon.front.upstream_headers import NAMES_NOTHING, Headers

MAX_FIELDS = 256
_FIELD_FRAME = 4
_OK = 200


class ResponseReader:
    """Reads one response; `pieces` of its body are there until they are taken.

    `headless` says that it answers HEAD; `max_head` bounds its head in bytes. `complete`: all of it
    has come; `broken`: no more of it will; `reusable`: another may follow on the connection;
    `between`: the last bytes ended a chunk.
    """

    __slots__ = (
        "_chunk_ended", "_extra", "_head_bytes", "_headers", "_headless", "_keeps_alive",
        "_max_head", "_parser", "_reason", "between", "broken", "complete", "head", "pieces",
    )  # fmt: skip

    def __init__(self, *, headless: bool, max_head: int) -> None:
        self._headless = headless
        self._max_head = max_head
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._extra = self._keeps_alive = self._chunk_ended = False
        self.head: ResponseHead | None = None
        self.pieces: list[bytes] = []
        self.complete = self.broken = self.between = False
        self._reset()

    @property
    def reusable(self) -> bool:
        """Whether the connection may be used again."""
        return self._keeps_alive and not self._extra

    @property
    def goes_on(self) -> bool:
        """Whether one piece came, and neither an end nor anything odd with it."""
        return len(self.pieces) == 1 and not (self.complete or self.broken)

    @property
    def ends_with_connection(self) -> bool:
        """Whether the end of the connection is the end of the body."""
        head = self.head
        return (
            head is not None
            and head.length is None
            and not any(name.lower() == b"transfer-encoding" for name, _ in head.headers)
        )

    def feed(self, data: bytes) -> None:
        """Read on."""
        parser = self._parser
        if parser is None:
            return
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.broken = not self.complete
            self._extra = True
        # A chunk that has begun has told its size, in a line: nothing of one is there yet.
        self.between = self._chunk_ended and data.endswith(b"\r\n")
        if self.head is None:
            self._head_bytes += len(data)
            if self._head_bytes > 2 * self._max_head:
                self.broken = True

    def close(self) -> None:
        """Let go of the parser, which holds this reader in a circle."""
        self._parser = None

    def take(self) -> bytes:
        """Return what has come of the body."""
        pieces = self.pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return data

    # llhttp's side

    def on_message_begin(self) -> None:
        """Start a head; behind a complete response there must be none."""
        if self.complete:
            self._extra = True
            return
        self._reset()

    def on_status(self, reason: bytes) -> None:
        """Collect the reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field."""
        if self.head is not None:
            return  # trailers are not passed on
        self._head_bytes += len(name) + len(value) + _FIELD_FRAME
        self._headers.append((name, value.rstrip(b" \t")))
        if self._head_bytes > self._max_head or len(self._headers) > MAX_FIELDS:
            raise ValueError("response head too large")

    def on_headers_complete(self) -> None:
        """Judge the head."""
        parser = self._parser
        if parser is None or (status := parser.get_status_code()) < _OK or self.complete:
            return
        length: int | None = None
        names_nothing = True
        coded = False
        for name, value in self._headers:
            lower = name.lower()
            if lower == b"connection":
                names_nothing = names_nothing and value.lower() in NAMES_NOTHING
            elif lower == b"content-length":
                length = int(value)
            elif lower == b"transfer-encoding":
                if coded or value.strip().lower() != b"chunked":
                    raise ValueError("a transfer coding that was not asked for")
                coded = True
        self.head = ResponseHead(
            status, self._reason, self._headers, length, names_nothing=names_nothing
        )
        if self._headless:
            self.complete = True
            self._keeps_alive = parser.should_keep_alive()

    def on_chunk_header(self) -> None:
        """Note that a chunk has begun."""
        self._chunk_ended = False

    def on_chunk_complete(self) -> None:
        """Note that it has ended, unless it is the last: then trailers may follow."""
        self._chunk_ended = self.head is not None and not self.complete

    def on_body(self, chunk: bytes) -> None:
        """Keep a piece until it is handed over; behind a complete response it is nobody's."""
        if self.complete:
            self._extra = True
        else:
            self.pieces.append(chunk)

    def on_message_complete(self) -> None:
        """Note the end."""
        self._chunk_ended = False
        parser = self._parser
        if parser is not None and self.head is not None and not self.complete:
            self.complete = True
            self._keeps_alive = parser.should_keep_alive()

    def _reset(self) -> None:
        self._headers: Headers = []
        self._reason = b""
        self._head_bytes = 0
