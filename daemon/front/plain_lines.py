"""Header lines that llhttp passes on as they are, and what they say, from memory.

The lines of a head are the same from message to message, but for a few: what a line says is
remembered (0.1 µs a line instead of 0.6 for llhttp with a callback). A line that is not plain is
read again each time: its message is llhttp's.
"""

import re
from typing import Final, final

from daemon.front.upstream_headers import KEPT_BACK

MAX_LENGTH_DIGITS: Final = 9
LENGTH: Final = 1 << 40
"""What one Content-Length weighs beside the number in it, which is far smaller: a sum of weights
tells whether there was exactly one, and its number."""

_MAX_LINES: Final = 8192
_MAX_LINE_BYTES: Final = 512
_FIELD = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*((?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?)[ \t]*"
)
_HOST = re.compile(rb"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]*")
_NOT_PLAIN = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"http2-settings"})


@final
class Field:
    """One line: `key` is the name in lower case, `length` what Content-Length says, else -1.

    `weight` is `LENGTH` and its number, 0 for any other field. `passes` is the line for the client
    of a response that is passed on whole, its end included: b"" if the field stays here.
    """

    __slots__ = ("key", "length", "line", "name", "passes", "value", "weight")

    def __init__(self, name: bytes, value: bytes, key: bytes, length: int = -1) -> None:
        self.name = name
        self.value = value
        self.key = key
        self.length = length
        self.line = b"%b: %b\r\n" % (name, value)
        self.weight = 0
        self.passes = b"" if key in KEPT_BACK else self.line
        if length >= 0:
            self.weight = LENGTH + length
            self.passes = b"Content-Length: %d\r\n" % length


known_lines: dict[bytes, Field] = {}
"""Lines and what they say, bounded in number and size. Whoever reads many looks here first."""


def is_host(value: bytes) -> bool:
    """Say whether a value can be an authority without userinfo, or empty (RFC 3986 §3.2.2)."""
    return _HOST.fullmatch(value) is not None


def read_line(line: bytes) -> Field | None:
    """Return what a line says, None if it is llhttp's to read; a plain one is remembered."""
    found = _FIELD.fullmatch(line)
    field = None if found is None else _plain(found[1], found[2])
    if field is not None and len(line) <= _MAX_LINE_BYTES:
        if len(known_lines) >= _MAX_LINES:
            known_lines.clear()
        known_lines[line] = field
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
