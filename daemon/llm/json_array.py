r"""A JSON array that arrives element by element, with its exact bytes (behaviour §11.1).

Gemini streams without `alt=sse` look like this: `[{…}\n,\r\n{…}\n]`. A piece is one element and the
bracket or comma before it, so that leaving an element out also leaves its separator out; `data` is
the end of `raw`. The last piece is the closing bracket, without data. A body that is a lone object
(an error) is one piece. Only brackets and strings are looked at; readers parse the elements.
"""

import re

from daemon.llm.framing import MAX_EVENT_BYTES, Piece

_OUTSIDE = re.compile(rb'["{}\[\]]')
_INSIDE = re.compile(rb'["\\]')


class JsonArraySplitter:
    """Splits one array; elements above `limit` bytes pass without being read."""

    __slots__ = (
        "_base",
        "_buffer",
        "_depth",
        "_element",
        "_in_string",
        "_limit",
        "_oversize",
        "_scan",
    )

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._buffer = bytearray()
        self._scan = 0
        self._limit = limit
        self._oversize = False
        self._in_string = False
        self._depth = 0
        self._base: int | None = None  # the depth at which elements stand; unknown before the first
        self._element: int | None = None  # where the open element begins in the buffer

    def feed(self, chunk: bytes) -> list[Piece]:
        """Take the next bytes; return the elements they complete."""
        buffer = self._buffer
        buffer += chunk
        pieces: list[Piece] = []
        start = 0
        scan = self._scan
        while found := (_INSIDE if self._in_string else _OUTSIDE).search(buffer, scan):
            scan = found.end()
            match found[0]:
                case b"\\":
                    scan += 1  # the escaped byte, even if it has not arrived yet
                case b'"':
                    self._in_string = not self._in_string
                case b"{" | b"[" as bracket:
                    self._open(bracket, scan - 1)
                case _:
                    if self._close():
                        pieces.append(self._piece(start, scan))
                        start = scan
        del buffer[:start]
        scan = max(scan, start + len(buffer)) - start
        if self._element is not None:
            self._element -= start
        if len(buffer) > self._limit:
            pieces.append(Piece(bytes(buffer)))
            scan -= len(buffer)
            buffer.clear()
            self._element = None
            self._oversize = True
        self._scan = scan
        return pieces

    @property
    def between(self) -> bool:
        """Tell that there is no such place: what separates elements belongs to one of them."""
        return False

    def end(self) -> list[Piece]:
        """Return what follows the last whole element."""
        raw = bytes(self._buffer)
        self._buffer.clear()
        self._scan = 0
        return [Piece(raw)] if raw else []

    def _open(self, bracket: bytes, at: int) -> None:
        if self._base is None:
            self._base = 1 if bracket == b"[" else 0
        if self._depth == self._base:
            self._element = at
        self._depth += 1

    def _close(self) -> bool:
        """Leave one level; tell whether an element or the array ends here."""
        self._depth = max(0, self._depth - 1)
        return self._depth <= (self._base or 0)

    def _piece(self, start: int, end: int) -> Piece:
        raw = bytes(self._buffer[start:end])
        oversize, self._oversize = self._oversize or len(raw) > self._limit, False
        element, self._element = self._element, None
        if oversize or element is None:
            return Piece(raw)
        return Piece(raw, bytes(self._buffer[element:end]))
