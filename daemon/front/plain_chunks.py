"""Chunks that arrive whole, one a read, as a streaming upstream writes them (RFC 9112 §7.1).

llhttp is the judge, as with plain heads: what is read here is a part of what it accepts, and only
between two chunks; it does not need to see a chunk to read the next.
"""

import re
from typing import Final

_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,7}")
_MAX_SIZES: Final = 4096

_sizes: Final[dict[bytes, int]] = {}
"""Size lines as sent, and what they say, 0 for what llhttp has to read. Bounded."""


def content_of(data: bytes) -> int:
    """Return where the content of the one chunk that is all of `data` begins, 0 if it is none.

    The content ends two bytes before the end. The last chunk, which is empty, is none.
    """
    at = data.find(b"\r\n", 0, 9)
    if at <= 0:
        return 0
    line = data[:at]
    size = _sizes.get(line)
    if size is None:
        size = _read(line)
    if size and len(data) == at + size + 4 and data.endswith(b"\r\n"):
        return at + 2
    return 0


def _read(line: bytes) -> int:
    size = int(line, 16) if _SIZE.fullmatch(line) else 0
    if len(_sizes) >= _MAX_SIZES:
        _sizes.clear()
    _sizes[line] = size
    return size
