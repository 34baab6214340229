"""What one LLM exchange used, as fronts report it and shards settle it (behaviour §11.1).

`prompt` and `completion` are the totals of their side; the other counts are *parts* of them, never
additions: cached and audio tokens lie within `prompt`, reasoning tokens within `completion`.
"""

import math
from collections.abc import Sequence
from typing import Final, Self

import msgspec

MAX_TOKENS = 2**53
"""The largest count believed; a bigger one is no token count but a mistake or an attack."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Token counts of one exchange; all whole and not negative.

    `prompt` and `completion` are None together when only a total is known.
    """

    prompt: int | None = None
    completion: int | None = None
    total: int = 0
    cached_input: int = 0
    cached_audio: int = 0
    """Part of both `cached_input` and `audio_input`."""
    cache_write: int = 0
    cache_write_1h: int = 0
    """Part of `cache_write` that is kept for an hour, at its own price."""
    audio_input: int = 0
    reasoning: int = 0
    audio_output: int = 0
    image_output: int = 0

    def to_wire(self) -> list[int | None]:
        """Return the counts as a msgpack-able list, in field order."""
        return list(msgspec.structs.astuple(self))

    @classmethod
    def from_wire(cls, wire: Sequence[int | None]) -> Self:
        """Build the usage that `to_wire` gave."""
        return cls(*wire)  # type: ignore[arg-type]  # only the first two fields may be None


UNKNOWN: Final = Usage(total=-1)
"""Nobody can say what was used. A reservation that is settled with it keeps what it charged."""


def whole_tokens(value: object) -> int | None:
    """Return a JSON value as a token count; None unless it is a number from 0 to `MAX_TOKENS`.

    Fractions are rounded up.
    """
    if type(value) is int:
        return value if 0 <= value <= MAX_TOKENS else None
    if type(value) is float:
        return math.ceil(value) if 0 <= value <= MAX_TOKENS else None
    return None
