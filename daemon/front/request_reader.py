"""Bytes of one client connection to complete requests (RFC 9112).

Rules
- Parsing is llhttp's, strict: bare CR or LF, folded lines, odd bytes in names or values, bad
  chunks, and Content-Length beside Transfer-Encoding are refused with 400.
- What llhttp leaves open is decided here: the size of heads, trailers and whatever else arrives
  without getting a request any further (chunk extensions, blank lines), the number of fields, the
  size of a kept body, Host, Expect, chunks in HTTP/1.0, a body beside Upgrade, transfer codings
  other than chunked, which nobody here decodes, and tunnels.
- A length or coding spelled with "_" is refused: it must not be taken for the one that frames.
- A `verbatim` reader keeps every field as sent. A body beyond its bound is not lost then: the
  request is handed over unfinished, and the rest of its body follows piece by piece.
- Header names are canonical: lower case, "_" as "-". The first of repeated headers counts, except
  X-Forwarded-For, whose lines are joined; a second Host is an error. Trailers are not headers.
- An edge header (§4.2) spelled with "_" counts only if none is spelled with "-": gateways overwrite
  a client's X-Forwarded-For, and many pass its X_Forwarded_For on, which must not count beside it.
"""

from typing import Protocol

import httptools

from daemon.engine.edge_headers import is_edge_header
from daemon.front import plain_requests
from daemon.front.inbound import Inbound
from daemon.front.plain_lines import is_host
from daemon.front.plain_requests import PlainReader
from daemon.front.refusal import Refusal, too_large

_FIELD_FRAME = 4
"""Bytes of ": " and CRLF around a field's name and value."""
_CANONICAL_ENTRIES = 4096
_CANONICAL_BYTES = 64
_ONCE = frozenset({b"host", b"transfer-encoding"})  # llhttp sees to Content-Length
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_MOST_FRAMING = 2 * plain_requests.MAX_FIELDS
"""What a head's fields may count more than they take, where blanks were left out."""
_NONE: frozenset[bytes] = frozenset()


class Taker(Protocol):
    """Whoever takes the requests. May raise `Refusal`."""

    def begun(self) -> None:
        """Hear that a request has begun that is not plain and all there."""

    def expects(self) -> None:
        """Hear that the client waits for 100 Continue before it sends the body."""

    def keeps(self, size: int) -> None:
        """Hear that so many bytes of a body will be kept."""

    def take(self, inbound: Inbound, /) -> None:
        """Take a plain request, after which another may follow; its body is to be kept."""

    def complete(self, inbound: Inbound, keep: bool, version: str, /) -> None:  # noqa: FBT001
        """Take a request; `keep`: whether another may follow on this connection."""

    def excess(self, chunk: bytes) -> None:
        """Take more of the body of the request that was handed over unfinished."""

    def excess_ended(self) -> None:
        """Hear that the body of the unfinished request is complete."""


class RequestReader:
    """The parser of one connection. `in_message`: whether a request has begun and not ended."""

    __deletable__ = ("_parser", "_taker")  # what mypyc has to be told
    __slots__ = (
        "_body",
        "_headers",
        "_in_head",
        "_last_read",
        "_mark",
        "_max_body",
        "_max_fields",
        "_max_head",
        "_parser",
        "_parses",
        "_peer",
        "_plain",
        "_raw",
        "_read_bytes",
        "_repeated",
        "_repeated_bytes",
        "_room",
        "_spilling",
        "_taker",
        "_target",
        "_trusted",
        "_underscored",
        "_unheard",
        "_upgrades",
        "_verbatim",
        "_version",
        "in_message",
    )

    def __init__(  # noqa: PLR0913 - who takes, who sends, three bounds and a manner
        self,
        taker: Taker,
        peer: str,
        *,
        trusted: bool,
        max_head: int,
        max_body: int,
        max_fields: int,
        verbatim: bool = False,
    ) -> None:
        self._taker = taker
        self._peer = peer
        self._trusted = trusted
        self._max_head = max_head
        self._max_body = max_body
        self._max_fields = max_fields
        self._verbatim = verbatim
        self._parses = False
        self._plain = PlainReader(
            peer,
            trusted=trusted,
            max_head=max_head - _MOST_FRAMING,
            max_body=max_body,
            max_fields=max_fields,
            verbatim=verbatim,
        )
        self._room = self._mark = max_body
        self._unheard = 0
        self._last_read = 0
        self._read_bytes = 0
        """Bytes of all reads that this request has a part in: an upper bound of its head."""
        self.in_message = False

    def feed(self, data: bytes) -> None:
        """Read on; requests go to the taker.

        Raises:
            Refusal: these bytes are no acceptable request, or the taker does not accept it.
        """
        if not self.in_message:
            inbound = self._plain.read(data)
            if inbound is not None:
                self._unheard = 0
                self._taker.take(inbound)
                return
        # Progress sets this back to 0; what is left grows by every read that brought none: more of
        # a head, trailers, chunk extensions, blank lines.
        size = self._last_read = len(data)
        self._read_bytes += size
        self._unheard += size
        if not self._parses:  # a connection whose requests are all plain needs no parser
            self._parser = httptools.HttpRequestParser(self)
            self._parses = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # the taker has been told that nothing can follow
        except httptools.HttpParserCallbackError as error:
            raise (error.__context__ or error) from None
        except httptools.HttpParserError:
            raise Refusal("400 Bad Request", "malformed request") from None
        if self._unheard > self._max_head:
            raise too_large()

    @property
    def kept(self) -> int:
        """How many bytes are kept of a body that is not complete."""
        return len(self._body) if self.in_message and not self._spilling else 0

    def progress(self) -> int:
        """Return how many bytes of the body have come since the last call."""
        came, self._mark = self._mark - self._room, self._room
        return came

    def close(self) -> None:
        """Let go of the parser and the taker, which hold this reader in circles."""
        if self._parses:
            del self._parser
        del self._taker

    # llhttp's side

    def on_message_begin(self) -> None:
        """Start afresh."""
        self._unheard = 0
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._repeated = 0
        self._underscored = _NONE
        self._repeated_bytes = 0
        self._read_bytes = self._last_read
        self._body: bytes | bytearray = b""
        self._room = self._mark = self._max_body
        self._raw: list[tuple[bytes, bytes]] = []
        self._spilling = False
        self._in_head = True
        self.in_message = True
        self._taker.begun()

    def on_url(self, url: bytes) -> None:
        """Collect the request target, which may come in pieces."""
        self._target += url
        if len(self._target) > self._max_head:
            raise too_large()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header; a trailer must not pose as one."""
        if not self._in_head:
            return
        key = _canonical.get(name)
        # llhttp leaves blanks at the end of a value; RFC 9112 §5.1 does not count them in.
        if value and value[-1] in b" \t":
            value = value.rstrip(b" \t")
        headers = self._headers
        if self._verbatim:
            self._raw.append((name, value))
        if key is None:
            key = canonical_name(name)
            if b"_" in name:  # never in the cache, so that the others need not be searched
                self._take_underscored(key, name, value)
                return
        if key not in headers:
            headers[key] = value
            return
        self._repeated += 1
        if key in self._underscored:
            self._underscored -= {key}
            headers[key], value = value, headers[key]
        elif key == b"x-forwarded-for":
            headers[key] += b", " + value
            value = b""  # counted there
        self._repeated_bytes += len(name) + len(value) + _FIELD_FRAME
        if key in _ONCE:
            raise Refusal("400 Bad Request", f"more than one {name.decode('ascii')} header")

    def _take_underscored(self, key: bytes, name: bytes, value: bytes) -> None:
        if key in _FRAMING:
            raise Refusal("400 Bad Request", "a length or transfer coding spelled with _")
        headers = self._headers
        if key not in headers:
            headers[key] = value
            if is_edge_header(key):
                self._underscored |= {key}
            return
        self._repeated += 1
        if key == b"x-forwarded-for" and key in self._underscored:
            headers[key] += b", " + value
            value = b""
        self._repeated_bytes += len(name) + len(value) + _FIELD_FRAME

    def on_headers_complete(self) -> None:
        """Judge the head before any of the body is read."""
        self._unheard = 0
        self._in_head = False
        headers = self._headers
        # Adding up costs 4 % of a request, and few heads arrive in as many bytes as they may have.
        if len(headers) + self._repeated > self._max_fields or (
            self._read_bytes > self._max_head and self._head_bytes() > self._max_head
        ):
            raise too_large()
        parser = self._parser
        self._version = parser.get_http_version()
        self._judge_version()
        if self._verbatim and parser.get_method() == b"CONNECT":
            raise Refusal("501 Not Implemented", "no tunnels")
        if not self._target.startswith(b"/"):
            self._take_absolute_form()
        if not is_host(headers.get(b"host", b"")):
            raise Refusal("400 Bad Request", "malformed Host")
        self._upgrades = parser.should_upgrade()
        if self._upgrades and (
            b"transfer-encoding" in headers or headers.get(b"content-length", b"0").strip(b"0")
        ):
            # llhttp stops at the head then; a body that is not seen would dodge its limits.
            raise Refusal("400 Bad Request", "a request for an upgrade cannot have a body")

    def _judge_version(self) -> None:
        """Judge what depends on the protocol's version."""
        headers, version = self._headers, self._version
        if version == "1.1":
            if b"host" not in headers:
                raise Refusal("400 Bad Request", "no Host header")
            if headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
                raise Refusal("400 Bad Request", "a transfer coding other than chunked")
            expect = headers.get(b"expect")
            if expect is not None:
                if expect.lower() != b"100-continue":
                    raise Refusal("417 Expectation Failed", "unknown expectation")
                self._taker.expects()
        elif version != "1.0":
            raise Refusal("505 HTTP Version Not Supported", "HTTP/1.0 or HTTP/1.1 only")
        elif b"transfer-encoding" in headers:
            raise Refusal("400 Bad Request", "Transfer-Encoding in HTTP/1.0")

    def _head_bytes(self) -> int:
        fields = sum(map(len, self._headers)) + sum(map(len, self._headers.values()))
        frames = len(self._headers) * _FIELD_FRAME
        return len(self._target) + fields + frames + self._repeated_bytes

    def _take_absolute_form(self) -> None:
        """Split `http://host/path` into target and Host, which it overrules (RFC 9112 §3.2.2)."""
        scheme, separator, rest = self._target.partition(b"://")
        if not separator or not scheme.isalpha():
            return  # "*" or CONNECT's authority: no path of ours, answered as such
        end = next((at for at, byte in enumerate(rest) if byte in b"/?"), len(rest))
        path = rest[end:]
        if not end:
            raise Refusal("400 Bad Request", "no host in the request target")
        self._target = path if path.startswith(b"/") else b"/" + path
        self._headers[b"host"] = rest[:end]

    def on_body(self, chunk: bytes) -> None:
        """Keep the body up to its bound; the excess is not looked at (§4.1)."""
        self._unheard = 0
        room = self._room
        self._room = room - len(chunk)
        if self._spilling:
            self._taker.excess(chunk)
            return
        if room > 0:
            self._keep(chunk, room)
        if self._verbatim and self._room < 0:
            self._spilling = True
            self._hand_over()
            self._taker.excess(chunk[max(room, 0) :])

    def _keep(self, chunk: bytes, room: int) -> None:
        self._taker.keeps(min(len(chunk), room))
        if not self._body:
            self._body = chunk[:room]
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)  # many small chunks must not cost an object each
        self._body += chunk[:room]

    def on_message_complete(self) -> None:
        """Hand a complete request over."""
        self._unheard = 0
        self.in_message = False
        if self._spilling:
            self._taker.excess_ended()
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        parser = self._parser
        version = self._version
        body, self._body = bytes(self._body), b""  # an idle connection must not hold on to it
        self._taker.complete(
            Inbound(
                parser.get_method().decode("latin-1"),
                self._target,
                self._headers,
                body,
                self._peer,
                self._trusted,
                raw=self._raw,
                unfinished=self._spilling,
                modern=version == "1.1",
            ),
            parser.should_keep_alive() and not self._upgrades,
            version,
        )


_canonical: dict[bytes, bytes] = {}
"""Names as sent, without "_", to canonical names: most clients send the same few. Bounded, and
begun anew when full: nobody may fill it for good with names of his own.
"""


def canonical_name(name: bytes) -> bytes:
    """Return a header name in lower case with "_" as "-" (§4.1)."""
    key = name.lower().replace(b"_", b"-")
    if b"_" not in name and len(name) <= _CANONICAL_BYTES:
        if len(_canonical) >= _CANONICAL_ENTRIES:
            _canonical.clear()
        _canonical[name] = key
    return key
