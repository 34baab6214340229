"""Which shard owns a counter, and what the counter is called (behaviour §4.5, §13.1).

Placement looks at the limit-key values only, never at the rule, so that all rules on one identity
meet in one shard. It is a CRC-32: cheap, and the same in every process (`hash()` is not).
"""

from collections.abc import Sequence
from hashlib import blake2b
from zlib import crc32

from protocol.operations import Key, Kind

_HASH_BYTES = 4
_DIGEST_BYTES = 16
MAX_KEY_CHARS = 256
"""Longer keys are replaced by a digest, by default: memory per counter stays bounded."""
FEWEST_KEY_CHARS, MOST_KEY_CHARS = _DIGEST_BYTES, 1024
"""What that bound may be: a digest must not be the longer name, and breakers are listed whole."""


def encode_key(values: Sequence[str], max_chars: int = MAX_KEY_CHARS) -> Key:
    """Return one counter key for the ordered `values`; different lists never give equal keys.

    A rule always has the same number of values, so a single value may stand as it is; several are
    length-prefixed. A key of more than `max_chars` becomes a digest of 16 bytes. Digests are
    `bytes` and so never equal a plain key, which is `str`.
    """
    key = values[0] if len(values) == 1 else "".join([f"{len(each)}:{each}" for each in values])
    if len(key) > max_chars:
        return key_digest(key)
    return key


def key_digest(key: str) -> bytes:
    """Return what a counter is called whose key is too long to be kept."""
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


def decode_key(key: Key, count: int) -> list[str] | None:
    """Return the `count` values that `encode_key` put into a key; None if only a digest is left."""
    if isinstance(key, bytes):
        return None
    if count == 1:
        return [key]
    values = []
    rest = key
    while rest:
        length, colon, rest = rest.partition(":")
        if not colon or not length.isdigit():
            return None
        values.append(rest[: int(length)])
        rest = rest[int(length) :]
    return values if len(values) == count else None


def placement(key: Key) -> int:
    """Return the 32-bit placement hash of a counter key; its owner is this modulo the shards."""
    if isinstance(key, str):
        key = key.encode("utf-8", "surrogatepass")
    return crc32(key)


def keyed_beside(fingerprint: bytes, placed: Key) -> bytes:
    """Return the key of a loop counter that lives beside the counter keyed `placed` (§5.7).

    It carries its own placement, so that whoever only has the key knows where it belongs.
    """
    return fingerprint + placement(placed).to_bytes(_HASH_BYTES, "big")


def home(kind: Kind, key: Key) -> int:
    """Return the placement hash of a stored counter from its kind and key alone."""
    if kind == "loop" and isinstance(key, bytes):
        return int.from_bytes(key[-_HASH_BYTES:], "big")
    return placement(key)
