"""Records of a log: how a batch becomes bytes and bytes become whole batches or nothing.

A segment is the line `MAGIC`, then records. A record is its body's length and CRC-32 (both 4 bytes,
little-endian), then the body, one msgpack array. A record whose length, checksum or shape is wrong
ends the segment: nothing behind it is believed, since nobody knows where the next one starts.

Integers beyond 64 bits, which fine-grained buckets hold, are extension type 1: their bytes, signed,
little-endian. Keys keep lone surrogates, which JSON may bring.
"""

import struct
from collections import deque
from collections.abc import Iterator
from zlib import crc32

import msgpack

MAGIC = b"fairvisor log 1\n"
MAX_BODY = 1 << 30
_HEAD = struct.Struct("<II")
_BIG = 1
_UNICODE = "surrogatepass"
_FALSE_RECORDS = (ValueError, TypeError, msgpack.exceptions.UnpackException)


def _plain(value: object) -> object:
    """Return what msgpack can carry in place of what it cannot."""
    if isinstance(value, int):
        return msgpack.ExtType(
            _BIG, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        )
    if isinstance(value, deque):
        return list(value)
    raise TypeError(f"cannot be stored: {value!r}")


def _extended(code: int, data: bytes) -> object:
    if code != _BIG:
        raise ValueError(f"unknown extension type {code}")
    return int.from_bytes(data, "little", signed=True)


_packer = msgpack.Packer(use_bin_type=True, autoreset=True, unicode_errors=_UNICODE, default=_plain)


def encode(body: list[object]) -> bytes:
    """Return one record.

    Raises:
        TypeError: the body holds something that is no number, text, bytes, list or map.
    """
    packed: bytes = _packer.pack(body)
    return _HEAD.pack(len(packed), crc32(packed)) + packed


class Records:
    """The whole records at the head of a segment's bytes, `MAGIC` not included, one after another.

    `end` is the offset behind the last that was given; a further iteration goes on from there.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.end = 0

    @property
    def left(self) -> int:
        """How many bytes have not been given."""
        return len(self._data) - self.end

    def __iter__(self) -> Iterator[list[object]]:
        data, view = self._data, memoryview(self._data)
        while len(data) - self.end >= _HEAD.size:
            length, checksum = _HEAD.unpack_from(data, self.end)
            start = self.end + _HEAD.size
            if not 0 < length <= min(MAX_BODY, len(data) - start):
                return
            packed = view[start : start + length]
            if crc32(packed) != checksum:
                return
            try:
                body = msgpack.unpackb(
                    packed,
                    raw=False,
                    strict_map_key=False,
                    unicode_errors=_UNICODE,
                    ext_hook=_extended,
                )
            except _FALSE_RECORDS:
                return
            if not isinstance(body, list):
                return
            self.end = start + length
            yield body
