"""What the supervisor tells of the daemon as a whole: log lines, and events among the records."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from daemon.engine.record import Record
from daemon.front.records import RecordWriter
from daemon.supervisor import events
from protocol.bundle import Bundle, Problem

log = logging.getLogger("fairvisor")

FLUSH_SECONDS = 1.0
MAX_NAP = 60.0
"""Seconds between looks at the clock, which may be set, for an override's end."""
STDOUT = 1


class Reports:
    """Events on standard output. `active` gives the bundle that serves."""

    def __init__(self, active: Callable[[], Bundle]) -> None:
        self._active = active
        self._overrides = events.Overrides()
        self._changed = asyncio.Event()
        self._writer = RecordWriter(STDOUT, _later)

    def tell(self, event: Record) -> None:
        """Write an event; never waits."""
        self._writer.submit(event)

    def applied(self) -> None:
        """Tell that the active bundle is another one."""
        bundle = self._active()
        log.info(
            "bundle_applied: version %d with %d policies, %s",
            bundle.version,
            len(bundle.policies),
            bundle.hash,
        )
        self.tell(events.bundle_applied(bundle, now_us()))
        self._changed.set()

    def rejected(self, problems: Sequence[Problem]) -> None:
        """Tell that a bundle was not taken; the log has it already."""
        self.tell(events.bundle_rejected(self._active(), problems, now_us()))

    async def watch_overrides(self) -> None:
        """Tell when override blocks begin and end, by a bundle or by themselves, for ever."""
        while True:
            self._changed.clear()
            for event in self._overrides.look(self._active(), now_us()):
                self.tell(event)
            end = self._overrides.next_end()
            wait = None if end is None else min(max(end - time.time(), 0.0), MAX_NAP)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)

    def close(self) -> None:
        """Write what is waiting."""
        self._writer.close(FLUSH_SECONDS)


def now_us() -> int:
    """Return the time in microseconds since the epoch."""
    return time.time_ns() // 1000


def _later(seconds: float, call: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, call)
