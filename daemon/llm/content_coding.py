"""Reading compressed responses (RFC 9110 §8.4.1): gzip and deflate, a piece at a time.

An upstream is asked for plain bodies, and some compress all the same. What is read is bounded: a
few kilobytes can expand a thousand times.
"""

import zlib
from typing import Final

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS
_WBITS: Final = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
_STEP: Final = 65_536
_FRAME_BYTES: Final = 2


class CodingError(ValueError):
    """The bytes are not what their coding says, or expand beyond the bound."""


class Decoder:
    """Undoes one coding."""

    __slots__ = ("_head", "_inflater", "_wbits")

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._inflater = zlib.decompressobj(wbits)
        self._head: bytes | None = b"" if wbits == _ZLIB else None
        """The first bytes of deflate, until it is known whether they are zlib's frame."""

    def feed(self, data: bytes, limit: int) -> bytes:
        """Return what `data` expands to.

        Raises:
            CodingError: it is not so coded, or expands to more than `limit` bytes.
        """
        if self._head is not None:
            data = self._head + data
            if len(data) < _FRAME_BYTES:
                self._head = data
                return b""
            self._head = None
            if not _is_zlib(data):
                self._inflater = zlib.decompressobj(_RAW)
        try:
            return self._expand(data, limit)
        except zlib.error as error:
            raise CodingError(str(error)) from None

    def _expand(self, data: bytes, limit: int) -> bytes:
        out: list[bytes] = []
        while True:
            if self._inflater.eof:
                data = data.lstrip(b"\0")  # padding between members
                if self._wbits != _GZIP or not data:
                    break
                self._inflater = zlib.decompressobj(_GZIP)
            piece = self._inflater.decompress(data, _STEP)
            out.append(piece)
            limit -= len(piece)
            if limit < 0:
                raise CodingError("expands too far")
            eof = self._inflater.eof
            data = self._inflater.unused_data if eof else self._inflater.unconsumed_tail
            # A full piece may leave more inside, also when all input has been taken.
            if not data and (eof or len(piece) < _STEP):
                break
        return b"".join(out)


def _is_zlib(data: bytes) -> bool:
    """Tell zlib's frame (RFC 1950 §2.2) from the bare deflate that some servers send instead."""
    return data[0] & 15 == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0


def decoder_for(coding: str) -> Decoder | None:
    """Return a decoder for a Content-Encoding, None if it cannot be read here."""
    wbits = _WBITS.get(coding.strip().lower())
    return None if wbits is None else Decoder(wbits)
