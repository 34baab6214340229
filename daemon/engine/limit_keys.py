"""What counters are called: limit keys' values, or a digest of those that are too long (§4.5)."""

from collections.abc import Sequence

from protocol.operations import Key
from protocol.placement import MAX_KEY_CHARS, encode_key


class LimitKeys:
    """Names counters of one process; all processes of a daemon have the same `max_chars`.

    `digested` counts the names that were too long and became digests.
    """

    __slots__ = ("digested", "max_chars")

    def __init__(self, max_chars: int = MAX_KEY_CHARS) -> None:
        self.max_chars = max_chars
        self.digested = 0

    def name(self, values: Sequence[str]) -> Key:
        """Return a counter's key and count it if it is a digest."""
        key = encode_key(values, self.max_chars)
        if isinstance(key, bytes):
            self.digested += 1
        return key
