"""Requests that arrive whole and have nothing special about them, read from memory (RFC 9112).

Rules
- llhttp is the judge. What is read here is a part of what it accepts, and is read as it reads it
  (tested against it); for anything else the answer is None, and llhttp gets the same bytes.
- Plain is: HTTP/1.1, the whole message in one piece and nothing behind it, a length instead of
  chunks, fields that llhttp passes on as they are, nothing about the connection but keep-alive.
- A client's requests mostly have one head, but for the number in Content-Length: what a head says
  is remembered without that number (0.5 µs instead of 0.3 a line).
"""

import re
from typing import Final

from daemon.front.inbound import Inbound, PlainHead
from daemon.front.plain_lines import MAX_LENGTH_DIGITS, read_line

MAX_FIELDS: Final = 100
"""Below what is allowed, as are the other bounds here."""
_MAX_HEADS: Final = 1024
_MAX_KEPT_HEAD: Final = 2048
"""Bytes: all heads that are kept take some 8 MB with what is known of them."""
_REQUEST_LINE = re.compile(
    rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[A-Za-z0-9\-._~/%?&=:@!$'()*+,;]*) HTTP/1\.1"
)
_LENGTH: Final = b"content-length: "

_heads: dict[bytes, PlainHead] = {}
"""Heads without the number in Content-Length, bounded in number and size."""


class PlainReader:
    """Reads the plain requests of one client.

    `peer` is its address, `trusted` whether its edge headers count; a `verbatim` reader gives every
    field as sent. Bounds in bytes, and in header lines.
    """

    __slots__ = ("_max_body", "_max_fields", "_max_head", "_peer", "_trusted", "_verbatim")

    def __init__(  # noqa: PLR0913 - who sends, three bounds and a manner
        self,
        peer: str,
        *,
        trusted: bool,
        max_head: int,
        max_body: int,
        max_fields: int,
        verbatim: bool,
    ) -> None:
        self._peer = peer
        self._trusted = trusted
        self._max_head = max_head
        self._max_body = max_body
        self._max_fields = min(max_fields, MAX_FIELDS)
        self._verbatim = verbatim

    def read(  # noqa: C901, PLR0911, PLR0912 - apart, it costs calls
        self, data: bytes
    ) -> Inbound | None:
        """Return the request that these bytes are, None if they are none or not a plain one."""
        end = data.find(b"\r\n\r\n")
        if not 0 < end < self._max_head:
            return None
        body = data[end + 4 :]
        if len(body) > self._max_body:
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
            if head is None or max(0, head.length) != len(body):
                return None
            if len(key) <= _MAX_KEPT_HEAD and _varies_there(data, at, digits, head):
                if len(_heads) >= _MAX_HEADS:
                    _heads.clear()
                _heads[key] = head
            headers, raw = head.headers, head.raw
        elif at >= 0 and digits != head.headers[b"content-length"]:
            if not digits.isdigit() or len(digits) > MAX_LENGTH_DIGITS or int(digits) != len(body):
                return None
            headers, raw = _with_length(head, digits)
        elif max(0, head.length) != len(body):
            return None
        else:
            headers, raw = head.headers, head.raw
        if len(headers) > self._max_fields:
            return None
        return Inbound(
            head.method,
            head.target,
            headers,
            body,
            self._peer,
            self._trusted,
            raw if self._verbatim else (),
            head=head,
        )


def _with_length(
    head: PlainHead, digits: bytes
) -> tuple[dict[bytes, bytes], list[tuple[bytes, bytes]]]:
    """Return headers and fields of a head with another length."""
    headers = head.headers.copy()
    headers[b"content-length"] = digits
    raw = [(name, digits if name.lower() == b"content-length" else text) for name, text in head.raw]
    return headers, raw


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
    fields = [field for line in lines[1:] if (field := read_line(line)) is not None]
    if len(fields) != len(lines) - 1:
        return None
    headers = {field.key: field.value for field in fields}
    if len(headers) != len(fields) or b"host" not in headers:
        return None
    length = max(field.length for field in fields)
    raw = [(field.name, field.value) for field in fields]
    return PlainHead(start[1].decode(), start[2], headers, raw, length)
