"""Frames on a Unix socket between our own processes: a length, then one msgpack array.

A frame is a 4-byte little-endian length followed by that many bytes of msgpack. Replies on a link
come in the order of the frames that asked for them, so nothing carries a request id.

Front to shard (times in integer microseconds since the epoch)
    [DECIDE, generation, now, [item, ...]]        item = [rid?, number, key, cost, number, key, …]
    [UNDO, generation, now, [[number, key, cost, charged_at, verdict, rid], ...]]   no reply
    [SETTLE, now, [[rid, usage], ...]]
    [HELLO, link, received, numbered]
                             first on a connection: which link this is (bytes), how many replies
                             have arrived on it so far, and how many items it has asked; with it
                             come the descriptors of `protocol.answered`
Shard to front, one per DECIDE or SETTLE
    [now, [reply, ...]]      a verdict for a one-operation item, else the list of its verdicts;
                             for SETTLE [number, identity, reserved, actual] by rule, or None
    [HELLO, applied, first]  in answer to HELLO: how many frames of the link were applied, -1 if
                             that is not known, and the number of the reply (from 0) that follows

A settlement's usage is `Usage.to_wire`, None to give everything back, or `UNKNOWN`'s to keep what
was charged. `rid` (bytes, b"" for none) stands first in an item that reserves. An undo with
`verdict` None gives a charge back; one with the verdict takes the operation back as if it had never
been evaluated. Its `rid` is that of a charge held for settlement, b"" for any other.
"""

import struct

import msgpack

DECIDE, UNDO, SETTLE, HELLO = 0, 1, 2, 3
"""Kinds of frame a front sends to a shard."""

MAX_FRAME = 64 << 20
"""Bytes; a longer frame cannot be ours and ends the link."""

_LENGTH = struct.Struct("<I")
_UNICODE = "surrogatepass"
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
_packer = msgpack.Packer(use_bin_type=True, autoreset=True)
_patient = msgpack.Packer(use_bin_type=True, autoreset=True, unicode_errors=_UNICODE)


class FrameError(ValueError):
    """The peer sent bytes that are not a frame; the link must be closed."""


def pack(message: object) -> bytes:
    """Return `message` as one frame.

    Integers beyond 64 bits become the nearest that fit: nothing can hold such a cost, and nobody
    lives to see such a retry. Lone surrogates, which JSON may bring, stay what they are.
    """
    body: bytes
    try:
        body = _packer.pack(message)
    except (OverflowError, UnicodeEncodeError):
        body = _patient.pack(_fitted(message))
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cut a byte stream into decoded frames. Bytes in, messages out; holds at most one frame."""

    __slots__ = ("_limit", "_missing", "_tail")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._tail = bytearray()
        self._missing = 0

    @property
    def rest(self) -> bytes:
        """The beginning of a frame that has not come to its end."""
        return bytes(self._tail)

    def feed(self, data: bytes) -> list[list[object]]:
        """Return the messages completed by `data`.

        Raises:
            FrameError: a length over the limit, bytes that are not msgpack, or not an array.
        """
        if self._tail:
            # A long frame comes in a thousand pieces: joined at its end, not a thousand times.
            self._tail += data
            if len(self._tail) < self._missing:
                return []
            data = bytes(self._tail)
        messages: list[list[object]] = []
        start, end = 0, len(data)
        self._missing = 4
        while end - start >= 4:  # noqa: PLR2004 - the length prefix
            (length,) = _LENGTH.unpack_from(data, start)
            if length > self._limit:
                raise FrameError(f"frame of {length} bytes is over the limit of {self._limit}")
            stop = start + 4 + length
            if stop > end:
                self._missing = 4 + length
                break
            messages.append(_decode(data[start + 4 : stop]))
            start = stop
        self._tail = bytearray(data[start:])
        return messages


def _fitted(value: object) -> object:
    """Return `value` with every integer cut to what msgpack can carry."""
    if isinstance(value, int) and not isinstance(value, bool):
        return min(max(value, _SMALLEST), _LARGEST)
    if isinstance(value, list | tuple):
        return [_fitted(item) for item in value]
    if isinstance(value, dict):
        return {key: _fitted(item) for key, item in value.items()}
    return value


def _decode(body: bytes) -> list[object]:
    try:
        message = msgpack.unpackb(body, raw=False, strict_map_key=False, unicode_errors=_UNICODE)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise FrameError(f"frame is not msgpack: {error}") from None
    if not isinstance(message, list) or not message:
        raise FrameError("frame is not a non-empty array")
    return message
