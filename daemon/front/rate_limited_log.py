"""Warnings that many requests would repeat: one line a minute for each kind and key."""

import logging
from typing import Final

PERIOD: Final = 60.0
MAX_KEYS: Final = 256
"""Lines a period may bring in all; beyond that a new key waits until an old one's period ends."""


class RateLimitedLog:
    """Log lines with a memory of what was said. Times are in seconds on any steady clock."""

    __slots__ = ("_log", "_said")

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        # In order of time, oldest first: what is said again goes to the end.
        self._said: dict[tuple[str, str], float] = {}

    def quiet(self, kind: str, key: str, now: float) -> bool:
        """Return whether a line of this kind and key would not be logged now."""
        said = self._said.get((kind, key))
        if said is not None:
            return now < said + PERIOD
        return len(self._said) >= MAX_KEYS and not self._forget(now)

    def say(
        self, kind: str, key: str, now: float, level: int, message: str, *arguments: object
    ) -> bool:
        """Log a line unless it has to be quiet; return whether it was logged."""
        if self.quiet(kind, key, now):
            return False
        self._said.pop((kind, key), None)
        self._said[kind, key] = now
        self._log.log(level, message, *arguments)
        return True

    def _forget(self, now: float) -> bool:
        """Drop what was said a period ago; return whether there is room now."""
        while self._said:
            oldest = next(iter(self._said))
            if now < self._said[oldest] + PERIOD:
                break
            del self._said[oldest]
        return len(self._said) < MAX_KEYS
