"""Heads that arrive whole and have nothing special about them, read line by line from memory.

Rules
- llhttp is the judge. What is read here is a part of what it accepts, and is read as it reads it
  (tested against it); for anything else the answer is None, and llhttp gets the same bytes.
- Plain is: HTTP/1.1, the whole message in one piece and nothing behind it, a length instead of
  chunks, fields that llhttp passes on as they are, nothing about the connection but keep-alive.
- The lines of a head are the same from message to message, but for a few: what a line says is
  remembered (0.1 µs a line instead of 0.6 for llhttp with a callback).
"""

import re
from typing import Final, final

MAX_FIELDS: Final = 100
"""Below what either side allows, as are the other bounds here."""
MAX_LENGTH_DIGITS: Final = 9

_MAX_LINES: Final = 8192
_MAX_LINE_BYTES: Final = 512
_MAX_HEADS: Final = 1024
_MAX_KEPT_HEAD: Final = 2048
"""Bytes: all heads that are kept take some 8 MB with what is known of them."""

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)")
_REQUEST_LINE = re.compile(
    rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[A-Za-z0-9\-._~/%?&=:@!$'()*+,;]*) HTTP/1\.1"
)
_FIELD = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*((?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?)[ \t]*"
)
_HOST = re.compile(rb"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]*")
_NOT_PLAIN = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"http2-settings"})
_BODILESS = frozenset({204, 304})
_LENGTH: Final = b"content-length: "


@final
class Field:
    """One line: `key` is the name in lower case, `length` what Content-Length says, else -1.

    `line` is the field as it is passed on, its end included.
    """

    __slots__ = ("key", "length", "line", "name", "value")

    def __init__(self, name: bytes, value: bytes, key: bytes, length: int = -1) -> None:
        self.name = name
        self.value = value
        self.key = key
        self.length = length
        self.line = b"%b: %b\r\n" % (name, value)


@final
class PlainResponse:
    """A response with its whole body. `line` is its status line, the end included."""

    __slots__ = ("body", "fields", "line", "reason", "status")

    def __init__(
        self, status: int, reason: bytes, line: bytes, fields: list[Field], body: bytes
    ) -> None:
        self.status = status
        self.reason = reason
        self.line = line
        self.fields = fields
        self.body = body


@final
class PlainHead:
    """The head of a request. `headers` by name in lower case; none is repeated.

    `length` is its Content-Length, -1 without one; a head that is `kept` stands for all that differ
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


@final
class PlainRequest:
    """A request with its whole body; `headers` and `raw` are its own, all else is its head's."""

    __slots__ = ("body", "head", "headers", "raw")

    def __init__(
        self,
        head: PlainHead,
        headers: dict[bytes, bytes],
        raw: list[tuple[bytes, bytes]],
        body: bytes,
    ) -> None:
        self.head = head
        self.headers = headers
        self.raw = raw
        self.body = body


_known: dict[bytes, Field | None] = {}
"""Lines and what they say, bounded in number and size. None: llhttp's."""
_starts: dict[bytes, tuple[int, bytes, bytes]] = {}
"""Status lines: status, reason and the line with its end. Bounded likewise."""
_heads: dict[bytes, PlainHead] = {}
"""Heads of requests without the number in Content-Length, bounded likewise: a client's requests
mostly differ in nothing else. 0.5 µs instead of 0.3 a line."""


def read_response(data: bytes, max_head: int) -> PlainResponse | None:
    """Return the response that these bytes are, None if they are none or not a plain one."""
    end = data.find(b"\r\n\r\n")
    if not 0 < end < max_head:
        return None
    lines = data[:end].split(b"\r\n")
    start = _starts.get(lines[0]) or _start(lines[0])
    if start is None or len(lines) > MAX_FIELDS:
        return None
    length = -1
    fields: list[Field] = []
    known = _known
    for line in lines[1:]:
        field = known[line] if line in known else _read(line)
        if field is None:
            return None
        said = field.length
        if said >= 0:
            if length >= 0:
                return None
            length = said
        fields.append(field)
    status, reason, line = start
    if length != len(data) - end - 4 or status in _BODILESS:
        return None
    return PlainResponse(status, reason, line, fields, data[end + 4 :])


def read_request(  # noqa: C901, PLR0911, PLR0912 - apart, it costs calls
    data: bytes, max_head: int, max_body: int
) -> PlainRequest | None:
    """Return the request that these bytes are, None if they are none or not a plain one."""
    end = data.find(b"\r\n\r\n")
    if not 0 < end < max_head:
        return None
    size = len(data) - end - 4
    if size > max_body:
        return None
    at = data.find(b"-Length: ", 0, end)
    if at < 0:
        at = data.find(b"-length: ", 0, end)
    if at < 0:
        key = data[:end]
        digits = b""
    else:
        at += 9
        stop = data.find(b"\r\n", at)
        key = data[:at] + data[stop:end]
        digits = data[at:stop]
    head = _heads.get(key)
    if head is None:
        head = _read_head(data[:end])
        if head is None or max(0, head.length) != size:
            return None
        if len(key) <= _MAX_KEPT_HEAD and _varies_there(data, at, digits, head):
            if len(_heads) >= _MAX_HEADS:
                _heads.clear()
            _heads[key] = head
    elif at < 0:
        if size:
            return None
    elif digits != head.headers[b"content-length"]:
        return _again(head, digits, data[end + 4 :])
    elif head.length != size:
        return None
    return PlainRequest(head, head.headers, head.raw, data[end + 4 :])


def _again(head: PlainHead, digits: bytes, body: bytes) -> PlainRequest | None:
    """Return a request with a head that is known but for its length."""
    if not digits.isdigit() or len(digits) > MAX_LENGTH_DIGITS or int(digits) != len(body):
        return None
    headers = head.headers.copy()
    headers[b"content-length"] = digits
    raw = [(name, digits if name.lower() == b"content-length" else text) for name, text in head.raw]
    return PlainRequest(head, headers, raw, body)


def _varies_there(data: bytes, at: int, digits: bytes, head: PlainHead) -> bool:
    """Return whether nothing but Content-Length stands at `at`, or there is none anywhere."""
    if at < 0:
        return head.length < 0
    line = data[data.rfind(b"\r\n", 0, at) + 2 : at]
    return line.lower() == _LENGTH and digits.isdigit()


def _read_head(data: bytes) -> PlainHead | None:
    lines = data.split(b"\r\n")
    start = _REQUEST_LINE.fullmatch(lines[0])
    if start is None or len(lines) > MAX_FIELDS:
        return None
    length = -1
    headers: dict[bytes, bytes] = {}
    raw: list[tuple[bytes, bytes]] = []
    known = _known
    for line in lines[1:]:
        field = known[line] if line in known else _read(line)
        if field is None:
            return None
        if field.length >= 0:
            length = field.length
        headers[field.key] = field.value
        raw.append((field.name, field.value))
    if len(headers) != len(raw) or b"host" not in headers:
        return None
    return PlainHead(start[1].decode(), start[2], headers, raw, length)


def _start(line: bytes) -> tuple[int, bytes, bytes] | None:
    """Read a status line that is not known, and remember it."""
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        return None
    start = (int(found[1]), found[2], line + b"\r\n")
    if len(line) <= _MAX_LINE_BYTES:
        if len(_starts) >= _MAX_HEADS:
            _starts.clear()
        _starts[line] = start
    return start


def is_host(value: bytes) -> bool:
    """Say whether a value can be an authority without userinfo, or empty (RFC 3986 §3.2.2)."""
    return _HOST.fullmatch(value) is not None


def _read(line: bytes) -> Field | None:
    """Read a line that is not known, and remember it."""
    found = _FIELD.fullmatch(line)
    field = None if found is None else _plain(found[1], found[2])
    if len(line) <= _MAX_LINE_BYTES:
        if len(_known) >= _MAX_LINES:
            _known.clear()
        _known[line] = field
    return field


def _plain(name: bytes, value: bytes) -> Field | None:
    key = name.lower()
    if b"_" in name or key in _NOT_PLAIN:
        return None
    if key == b"connection" and value.lower() != b"keep-alive":
        return None
    if key == b"host" and not is_host(value):
        return None
    if key != b"content-length":
        return Field(name, value, key)
    if not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
        return None
    return Field(name, value, key, int(value))
