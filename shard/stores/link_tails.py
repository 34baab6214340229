"""What a log says of a front's link: how far it was applied, and the last replies (see §13.3).

A shard that takes over from one that died asks this when a front connects again: replies that were
logged and never arrived are repeated, and what was not logged never happened.
"""

import struct
from collections import deque
from dataclasses import dataclass, field

_LENGTH = struct.Struct("<I")
_KEPT = 256
"""Batches of replies that are remembered: more than a socket holds."""


@dataclass(slots=True)
class LinkTail:
    """The end of one link: frames applied, replies made, and the last of these with their number.

    `replies` of a batch without changes may be missing here: they said nothing that must be kept.
    """

    applied: int = 0
    replied: int = 0
    kept: deque[tuple[int, bytes]] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def add(self, applied: int, replied: int, replies: bytes) -> None:
        """Take what one batch says; `replied` counts the batch's own replies, too."""
        self.applied, self.replied = applied, replied
        if replies:
            self.kept.append((replied, replies))

    def since(self, received: int) -> tuple[int, bytes]:
        """Return the replies from number `received` on, and the number of the first of them."""
        first, found = received, b""
        for end, replies in self.kept:
            if end <= received:
                continue
            frames = _split(replies)
            start = end - len(frames)
            if not found:
                first = max(start, received)
                replies = b"".join(frames[first - start :])  # noqa: PLW2901 - what is left of it
            found += replies
        return first, found


def _split(replies: bytes) -> list[bytes]:
    frames, at = [], 0
    while at < len(replies):
        end = at + _LENGTH.size + _LENGTH.unpack_from(replies, at)[0]
        frames.append(replies[at:end])
        at = end
    return frames
