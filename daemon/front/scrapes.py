"""Scrapes of one front: the supervisor is asked once at a time, for all who wait.

Rules
- Who comes while a question is under way shares the next one: an answer must not be older than its
  question, or it could miss what its client has just seen.
- So many may wait, and one more is told to come again: the text is the largest answer there is.
"""

from collections.abc import Callable
from typing import Final

MAX_SCRAPES: Final = 64
"""Scrapes of one front under way."""

Callback = Callable[[bytes], None]


class Scrapes:
    """Those who wait for the metrics. `ask(number)` asks the supervisor, who answers by number."""

    __slots__ = ("_ask", "_asked", "_number", "_waiting")

    def __init__(self, ask: Callable[[int], None]) -> None:
        self._ask = ask
        self._number = 0
        self._asked: list[Callback] = []
        self._waiting: list[Callback] = []

    def take(self, callback: Callback) -> bool:
        """Call back with the text; return False if too many wait already."""
        if len(self._asked) + len(self._waiting) >= MAX_SCRAPES:
            return False
        self._waiting.append(callback)
        if not self._asked:
            self._next()
        return True

    def answered(self, number: int, text: bytes) -> None:
        """Hand the text to those who asked for it, and ask for the others."""
        if number != self._number:
            return
        asked, self._asked = self._asked, []
        if self._waiting:
            self._next()
        for callback in asked:
            callback(text)

    def _next(self) -> None:
        self._asked, self._waiting = self._waiting, []
        self._number += 1
        self._ask(self._number)
