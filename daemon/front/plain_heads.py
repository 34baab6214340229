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
from typing import NamedTuple

MAX_FIELDS = 100
"""Below what either side allows, as are the other bounds here."""
MAX_LENGTH_DIGITS = 9

_MAX_LINES = 8192
_MAX_LINE_BYTES = 512

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


class Field(NamedTuple):
    """One line: `key` is the name in lower case, `length` what Content-Length says, else -1."""

    name: bytes
    value: bytes
    key: bytes
    length: int = -1


class PlainResponse(NamedTuple):
    """A response with its whole body."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class PlainRequest(NamedTuple):
    """A request with its whole body. `headers` by name in lower case; none is repeated."""

    method: str
    target: bytes
    headers: dict[bytes, bytes]
    raw: list[tuple[bytes, bytes]]
    body: bytes


_known: dict[bytes, Field | None] = {}
"""Lines and what they say, bounded in number and size. None: llhttp's."""


def read_response(data: bytes, max_head: int) -> PlainResponse | None:
    """Return the response that these bytes are, None if they are none or not a plain one."""
    end = data.find(b"\r\n\r\n")
    if not 0 < end < max_head:
        return None
    lines = data[:end].split(b"\r\n")
    start = _STATUS_LINE.fullmatch(lines[0])
    if start is None or len(lines) > MAX_FIELDS:
        return None
    length = -1
    headers: list[tuple[bytes, bytes]] = []
    known = _known
    for line in lines[1:]:
        field = known[line] if line in known else _read(line)
        if field is None:
            return None
        name, value, _, said = field
        if said >= 0:
            if length >= 0:
                return None
            length = said
        headers.append((name, value))
    status = int(start[1])
    if length != len(data) - end - 4 or status in _BODILESS:
        return None
    return PlainResponse(status, start[2], headers, data[end + 4 :])


def read_request(data: bytes, max_head: int, max_body: int) -> PlainRequest | None:
    """Return the request that these bytes are, None if they are none or not a plain one."""
    end = data.find(b"\r\n\r\n")
    if not 0 < end < max_head:
        return None
    lines = data[:end].split(b"\r\n")
    start = _REQUEST_LINE.fullmatch(lines[0])
    if start is None or len(lines) > MAX_FIELDS:
        return None
    length = 0
    headers: dict[bytes, bytes] = {}
    raw: list[tuple[bytes, bytes]] = []
    known = _known
    for line in lines[1:]:
        field = known[line] if line in known else _read(line)
        if field is None:
            return None
        name, value, key, said = field
        if said >= 0:
            length = said
        headers[key] = value
        raw.append((name, value))
    size = len(data) - end - 4
    if len(headers) != len(raw) or length != size or size > max_body or b"host" not in headers:
        return None
    return PlainRequest(start[1].decode(), start[2], headers, raw, data[end + 4 :])


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
