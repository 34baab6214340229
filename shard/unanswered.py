"""What a front's requests were charged lately, until it is known that they were answered.

Theory
- A front that lives tells a shard what to take back. One that is killed cannot: whatever it had not
  answered is given back here, by the notes that it left (`protocol.answered`). So after a front's
  death what is on the counters is what was answered, but for a request that it was about to write:
  that one stays charged.
- Only the last frames are remembered. A front has few under way on one link: those of a loop turn
  or two. What is older stays charged.
- A front may lose its link and live. Then it says itself what becomes of its requests; it is dead
  only when its lifeline is.
"""

import os
from collections import deque

from protocol.answered import PAGE_BYTES, is_answered
from protocol.operations import Wire
from shard.service import ShardService

REMEMBERED = 256
"""Frames of one link."""


class Unanswered:
    """The last frames of one link. `lifeline` and `page` are descriptors, closed by `close`."""

    __slots__ = ("_frames", "_next", "_page", "lifeline")

    def __init__(self, page: int, lifeline: int, numbered: int) -> None:
        self._page = page
        self.lifeline = lifeline
        self._next = numbered + 1
        self._frames: deque[tuple[int, int, list[Wire], list[Wire]]] = deque(maxlen=REMEMBERED)

    def applied(self, frame: list[Wire], reply: list[Wire]) -> None:
        """Remember a frame of decisions and what was replied to it."""
        items = frame[3]
        self._frames.append((self._next, frame[1], items, reply))
        self._next += len(items)

    def give_back(self, service: ShardService) -> int:
        """Undo what the dead front's requests were charged and it never answered; count them."""
        try:
            page = os.pread(self._page, PAGE_BYTES, 0)
        except OSError:
            return 0
        if len(page) != PAGE_BYTES:
            return 0
        given_back = 0
        for first, generation, items, (now, replies) in reversed(self._frames):
            for number in range(first + len(items) - 1, first - 1, -1):
                if not is_answered(page, number):
                    at = number - first
                    service.take_back(generation, items[at], replies[at], now)
                    given_back += 1
        self._frames.clear()
        return given_back

    def close(self) -> None:
        """Let go of the page and the lifeline."""
        os.close(self._page)
        os.close(self.lifeline)
