"""The figures of all processes, gathered on request (behaviour §15).

Rules
- A scrape asks every child for its snapshot and waits for all, so one scrape is exact over all
  processes. It shares no round that began before it, or it could miss what its client has just
  seen; those that come during a round share the next.
- A front that ends leaves its last snapshot behind, so totals do not fall. Snapshots are taken now
  and then also without a scrape, so that a killed front takes little with it.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from daemon.supervisor.children import Child
from daemon.supervisor.metrics import SUMMED_GAUGES, Totals
from protocol import control

COLLECT_SECONDS = 2.0
COLLECT_TIMEOUT = 1.0


class Collection:
    """Asks children for snapshots and adds them up."""

    def __init__(
        self,
        shards: Sequence[Child],
        fronts: Sequence[Child],
        keepers: Sequence[Child] = (),
        leaving: Sequence[Child] = (),
    ) -> None:
        self._leaving = leaving
        self._keepers = keepers
        self._shards = shards
        self._fronts = fronts
        self.retired = Totals()
        """What fronts that have ended counted."""
        self._number = 0
        self._waiting: set[Child] = set()
        self._complete = asyncio.Event()
        self._round: asyncio.Task[int] | None = None
        self._next: asyncio.Task[int] | None = None

    async def regularly(self) -> None:
        """Collect every few seconds, for ever."""
        while True:
            await asyncio.sleep(COLLECT_SECONDS)
            await self.collect()

    async def collect(self) -> int:
        """Have every child's snapshot brought up to date; a silent child is not waited for long.

        Returns the number of the round, which did not begin before this call.
        """
        loop = asyncio.get_running_loop()
        running = self._round
        if running is None or running.done():
            self._round = loop.create_task(self._collect())
            return await self._round
        if self._next is None:
            self._next = loop.create_task(self._follow(running))
        return await self._next

    async def _follow(self, running: asyncio.Task[int]) -> int:
        """Collect again once the running round is over."""
        await asyncio.wait([running])
        self._round, self._next = self._next, None
        return await self._collect()

    def hear(self, child: Child, number: int, snapshot: object) -> None:
        """Take a child's snapshot."""
        child.snapshot = snapshot
        if number == self._number:
            self._waiting.discard(child)
            if not self._waiting:
                self._complete.set()

    def ended(self, child: Child) -> None:
        """Keep what a child that has ended counted."""
        if child in self._fronts or child in self._leaving:
            self.retired.add(child.snapshot)
            for gauge in SUMMED_GAUGES:  # what it held has ended with it
                self.retired.counts.pop((gauge, ()), None)
        child.snapshot = None
        self.hear(child, self._number, None)

    def open_breakers(self) -> set[str]:
        """Return the identities of which some breaker is open, by the last snapshots."""
        found: set[str] = set()
        for shard in self._shards:
            if isinstance(shard.snapshot, dict):
                found.update(shard.snapshot["breakers"])
        return found

    def totals(self) -> Totals:
        """Return the sum of the last snapshots."""
        totals = Totals()
        totals.counts.update(self.retired.counts)
        totals.durations.update(self.retired.durations)
        for front in (*self._fronts, *self._leaving):
            totals.add(front.snapshot)
        for shard in self._shards:
            figures = shard.snapshot
            if isinstance(figures, dict):
                label = (shard.name.removeprefix("shard "),)
                totals.set("counters", figures["counters"], label)
                totals.set("counters_evicted_total", figures["evicted"], label)
                totals.set("reservations", figures["reservations"], label)
                totals.set("reservations_expired_total", figures["expired"], label)
                totals.set("reservations_dropped_total", figures.get("dropped", 0), label)
                totals.set("store_degraded", figures.get("degraded", 0), label)
        for keeper in self._keepers:
            figures = keeper.snapshot
            if isinstance(figures, dict):
                totals.set("store_database_bytes", figures["database"])
                totals.set("store_log_bytes", figures["log"])
                totals.set("store_folding_failed", figures["failing"])
        return totals

    async def _collect(self) -> int:
        self._number += 1
        number = self._number
        self._waiting = {
            child
            for child in (*self._fronts, *self._leaving, *self._shards, *self._keepers)
            if child.ready
        }
        self._complete.clear()
        if not self._waiting:
            return number
        for child in self._waiting:
            child.tell(control.COLLECT, self._number)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._complete.wait(), COLLECT_TIMEOUT)
        return number
