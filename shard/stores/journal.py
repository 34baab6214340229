"""What keeps a shard's changes: its log while the disk takes it, memory while not (§13.5).

Rules
- `commit` comes between a batch and its answers. When it returns, what was answered outlives this
  process (the page cache does); with `power` it outlives the machine.
- A disk that does not take a write makes the shard go on in memory. It tries again every few
  seconds. Once a segment can be made, changes are logged again, and everything else is written
  beside the decisions, a thousand counters at a time: only when that snapshot is complete does the
  log say so, and the shard count as durable.
- A segment is left for the next one after half a second, so that the thread behind it has it on the
  disk within the second that `crash` allows.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from shard.changes import Changes
from shard.service import ShardService
from shard.stores.batches import MARK_BEGIN, MARK_END, MARK_NONE, BatchWriter
from shard.stores.folder import Segment, StateFolder
from shard.stores.records import encode
from shard.stores.restore import Place, Tell
from shard.stores.segments import Files, SegmentChain

Durability = Literal["crash", "power"]
ROTATE_SECONDS = 0.5
RETRY_SECONDS = 2.0
_SNAPSHOT_STEP = 1000


@dataclass(slots=True)
class _Snapshot:
    """How far a snapshot has come: the place on the ring, and the reservations still to go."""

    at: int
    reservations: Iterator[bytes]


class Journal:
    """One shard's log and its state of health. `links` gives all fronts' links as they are now."""

    def __init__(  # noqa: PLR0913 - where, whose, how, and whom to tell
        self,
        folder: StateFolder,
        place: Place,
        durability: Durability,
        service: ShardService,
        tell: Tell,
        links: Callable[[], list[object]],
        files: Files | None = None,
    ) -> None:
        self._folder = folder
        self._shards = place.shards
        self._power = durability == "power"
        self._service = service
        self._tell = tell
        self._name = f"shard {place.shard}"
        self._links = links
        self._files = files or Files()
        self._changes = Changes()
        self._writer = BatchWriter()
        self._chain: SegmentChain | None = None
        self._last = Segment(place.run, place.shard, place.life, 0)
        self._snapshot: _Snapshot | None = None
        self._since = 0.0
        self._written = False
        self._failed = False
        self.failures = 0
        service.keep(self._changes)

    @property
    def degraded(self) -> bool:
        """Whether a lost process would lose counters now."""
        return self._failed

    @property
    def busy(self) -> bool:
        """Whether there is work to do between batches."""
        return self._snapshot is not None

    def open(self, now: float) -> None:
        """Begin the log; `now` is a monotonic time in seconds, here and below."""
        self._since = now
        try:
            self._begin()
        except OSError as error:
            self._fail(error, now)

    def commit(self, now: float, links: list[object]) -> None:
        """Keep what has changed since the last commit, and what is replied to `links` for it."""
        if not self._changes:
            return
        if self._chain is None:
            self._changes.clear()
            return
        try:
            self._write(self._chain, MARK_NONE, links)
        except OSError as error:
            self._fail(error, now)

    def tick(self, now: float) -> None:
        """Do what is due beside the decisions; never longer than a millisecond or two."""
        chain = self._chain
        try:
            if chain is None:
                if now - self._since >= RETRY_SECONDS:
                    self._since = now
                    self._start_snapshot(self._begin())
            elif self._snapshot is not None:
                self._go_on(chain, self._snapshot)
            elif now - self._since >= ROTATE_SECONDS and self._written and chain.rotate():
                self._since = now
                self._written = False
                self._writer = BatchWriter()
                links = self._links()
                if links:
                    # the segments that know of them may be folded before they say anything again
                    self._write(chain, MARK_NONE, links)
                    self._written = False
        except OSError as error:
            self._fail(error, now)

    def take_snapshot(self, now: float) -> None:
        """Begin to write everything there is: the database has lost what it had."""
        if self._chain is None:
            return  # it will be done anyway
        try:
            self._start_snapshot(self._chain)
        except OSError as error:
            self._fail(error, now)

    def _start_snapshot(self, chain: SegmentChain) -> None:
        self._snapshot = _Snapshot(
            self._service.store.size, iter(list(self._service.reservations.held))
        )
        self._write(chain, MARK_BEGIN, self._links())

    def close(self) -> None:
        """Bring what was written to the disk."""
        if self._chain is not None:
            self._chain.close()
            self._chain = None

    def _begin(self) -> SegmentChain:
        self._last = replace(self._last, number=self._last.number + 1)
        self._chain = chain = SegmentChain(self._folder, self._last, self._shards, self._files)
        self._writer = BatchWriter()
        return chain

    def _write(self, chain: SegmentChain, mark: int, links: list[object]) -> None:
        if chain.error is not None:
            raise chain.error
        service = self._service
        held = service.reservations.held
        body = self._writer.body(self._changes, held, service.now, links, mark)
        self._changes.clear()
        chain.current.write(encode(body))
        self._written = True
        if self._power:
            chain.current.sync()

    def _go_on(self, chain: SegmentChain, snapshot: _Snapshot) -> None:
        if snapshot.at:
            snapshot.at = self._service.store.walk_back(snapshot.at, _SNAPSHOT_STEP)
            self._write(chain, MARK_NONE, [])
            return
        rids = list(islice(snapshot.reservations, _SNAPSHOT_STEP))
        self._changes.reservations.update(rids)
        if rids:
            self._write(chain, MARK_NONE, [])
            return
        self._write(chain, MARK_END, [])
        self._snapshot = None
        if self._failed:
            self._failed = False
            self._tell("warning", f"{self._name}: counters are stored again")

    def _fail(self, error: OSError, now: float) -> None:
        self._since = now
        self._snapshot = None
        self._changes.clear()
        chain, self._chain = self._chain, None
        if chain is not None:
            self._last = chain.last
            chain.abandon()
        self.failures += 1
        if not self._failed:
            self._failed = True
            reason = error.strerror or os.strerror(error.errno or 0)
            self._tell(
                "error",
                f"{self._name}: counters cannot be stored in {self._folder.path}: {reason};"
                " they are kept in memory until they can",
            )
