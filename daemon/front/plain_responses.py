"""Responses that arrive whole and have nothing special about them (RFC 9112).

llhttp is the judge, as with plain requests: what is read here is a part of what it accepts, and is
read as it reads it; for anything else the answer is None, and llhttp gets the same bytes.
"""

import re
from typing import Final, final

from daemon.front.plain_lines import LENGTH, Field, known_lines, read_line

MAX_FIELDS: Final = 100
"""Below what is allowed, as are the other bounds here."""
_MAX_STARTS: Final = 1024
_MAX_START_BYTES: Final = 512
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)")
_BODILESS = frozenset({204, 304})


@final
class StatusLine:
    """`line` is the line as it is passed on, its end included."""

    __slots__ = ("line", "reason", "status")

    def __init__(self, status: int, reason: bytes, line: bytes) -> None:
        self.status = status
        self.reason = reason
        self.line = line


@final
class PlainResponse:
    """A response with its whole body.

    `head` is its status line and fields for a client who gets the body as it is.
    """

    __slots__ = ("_lines", "body", "head", "start")

    def __init__(self, start: StatusLine, lines: list[bytes], head: bytes, body: bytes) -> None:
        self.start = start
        self._lines = lines
        self.head = head
        self.body = body

    @property
    def fields(self) -> list[Field]:
        """All fields as they came."""
        return [field for line in self._lines if (field := read_line(line)) is not None]


_starts: dict[bytes, StatusLine] = {}
"""Status lines, bounded in number and size."""


def read_response(data: bytes, max_head: int) -> PlainResponse | None:
    """Return the response that these bytes are, None if they are none or not a plain one."""
    end = data.find(b"\r\n\r\n")
    if not 0 < end < max_head:
        return None
    lines = data[:end].split(b"\r\n")
    start = _starts.get(lines[0]) or _start(lines[0])
    if start is None or len(lines) > MAX_FIELDS:
        return None
    del lines[0]
    passing = [start.line]
    weight = 0
    known = known_lines
    for line in lines:
        field = known.get(line) or read_line(line)
        if field is None:
            return None
        weight += field.weight
        passing.append(field.passes)
    # Exactly one length, and it is that of what follows.
    if weight != LENGTH + len(data) - end - 4:
        return None
    return PlainResponse(start, lines, b"".join(passing), data[end + 4 :])


def _start(line: bytes) -> StatusLine | None:
    """Read a status line that is not known, and remember it."""
    found = _STATUS_LINE.fullmatch(line)
    if found is None or int(found[1]) in _BODILESS:
        return None
    start = StatusLine(int(found[1]), found[2], line + b"\r\n")
    if len(line) <= _MAX_START_BYTES:
        if len(_starts) >= _MAX_STARTS:
            _starts.clear()
        _starts[line] = start
    return start
