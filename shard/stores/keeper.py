"""The keeper: folds the logs of all shards into the database, beside the decisions (§13.5).

Rules
- Only it writes to the database while a daemon runs. Nobody waits for it: a keeper that is late
  means longer logs, and a longer start for a shard that is killed.
- It folds segments that nobody writes to any more: `.done` ones, and all of earlier runs.
- Segments go, in order, once the transaction that folded them is on the disk; the database knows
  their names until their files are gone.
- What is damaged is set aside under a name with the time, and told. A torn end is damage only where
  a segment was completed and another followed it: a killed writer leaves its last one torn.
"""

import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from shard.caution import CautiousClock
from shard.stores import database
from shard.stores.database import Part
from shard.stores.folder import Segment, StateError, StateFolder, sync_folder
from shard.stores.image import Image
from shard.stores.restore import Tell
from shard.stores.schema import NewerDatabaseError, open_database, transaction
from shard.stores.segments import UnreadableSegmentError, read_segment

FOLD_BYTES = 32 << 20
"""Bytes of logs that are worth a fold, and that one transaction takes before it ends."""
FOLD_SECONDS = 60.0
FOLD_COUNTERS = 50_000
"""How many counters a transaction may touch before it ends with the segment that is being read.

New counters take far more memory than log."""
EXPIRE_SECONDS = 600.0
RETRY_SECONDS = 5.0


class Keeper:
    """The writer of one state folder. Times: `now` in seconds since the epoch, as of a clock.

    `reservation_ttl` in microseconds; None leaves alone what has expired. `alive` is called now and
    then in long work; `steady` gives nanoseconds that no hand sets.
    """

    def __init__(
        self,
        folder: StateFolder,
        reservation_ttl: int | None,
        tell: Tell,
        alive: Callable[[], None] = lambda: None,
        steady: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._folder = folder
        self._alive = alive
        self._steady = steady
        self._caution = CautiousClock(0, 0)
        self._ttl = reservation_ttl
        self._tell = tell
        self._connection: sqlite3.Connection | None = None
        self._run = 0
        self._folded_at = 0.0
        self._expired_at = 0.0
        self._retry_at = 0.0
        self._complained = ""
        self.lost = False
        """Whether the database was set aside: what only it knew is gone."""

    def start(self, run: int, now: float) -> int:
        """Open the database and fold what earlier runs have left; return the number of this run.

        `run` is that of a daemon that is running already, 0 for a new one.

        Raises:
            StateError: there is no database to be had.
        """
        path = self._folder.database
        try:
            self._connection = self._opened(path, now)
            known = max((segment.run for segment in self._folder.segments()), default=0)
            self._run = run or database.next_run(self._connection, known + 1)
        except NewerDatabaseError as error:
            raise StateError(
                f"{path}: {error}; install that version again, or move it away"
            ) from None
        except (sqlite3.Error, OSError) as error:
            raise StateError(f"{path} cannot be written: {error}") from None
        self._expired_at = now  # nothing is dropped before the store's own time is known
        if run:  # shards of this run wait for the database, but not for their logs to be in it
            self._folded_at = now
        else:
            self.turn(now, everything=True)
        with suppress(sqlite3.Error):
            newest = database.newest(self._connection)
            self._caution = CautiousClock(newest, self._steady() // 1000)
        return self._run

    @property
    def connection(self) -> sqlite3.Connection:
        """The database; `start` has opened it.

        Raises:
            StateError: it has not.
        """
        if self._connection is None:
            raise StateError(f"{self._folder.database} is not open")
        return self._connection

    def turn(self, now: float, *, everything: bool = False) -> None:
        """Fold what is waiting if it is worth it or old enough; drop what has expired."""
        if self._connection is None or (now < self._retry_at and not everything):
            return
        believed = self._caution.at(int(now * 1_000_000), self._steady() // 1000)
        try:
            waiting = [each for each in self._folder.segments() if self._is_complete(each)]
            size = sum(self._sizes(waiting))
            due = size >= FOLD_BYTES or abs(now - self._folded_at) >= FOLD_SECONDS
            if waiting and (everything or due):
                self._fold(self._connection, waiting, now)
                # Up to 16 MiB of pages, which nobody wants for a minute.
                self._connection.execute("PRAGMA shrink_memory")
                self._folded_at = now
            if self._ttl is not None and abs(now - self._expired_at) >= EXPIRE_SECONDS:
                self._expired_at = now
                database.expire(self._connection, believed, self._ttl)
            if self._complained:
                self._complained = ""
                self._tell("warning", f"{self._folder.database} is written again")
        except (sqlite3.OperationalError, OSError) as error:
            self._retry_at = now + RETRY_SECONDS
            if not self._complained:
                self._complained = str(error)
                self._tell(
                    "error",
                    f"{self._folder.database} cannot be written: {error}; logs wait until it can",
                )

    def finish(self, now: float) -> None:
        """Fold everything, what shards have just left too, and close the database."""
        self._run += 1  # nobody writes for the present run any more
        self.turn(now, everything=True)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def figures(self) -> dict[str, int]:
        """Return the sizes of the database and of the logs that wait, in bytes."""
        stored = [self._folder.database, Path(f"{self._folder.database}-wal")]
        return {
            "database": sum(self._size(path) for path in stored),
            "log": sum(self._sizes(self._folder.segments())),
            "failing": int(bool(self._complained)),
        }

    def _opened(self, path: Path, now: float) -> sqlite3.Connection:
        try:
            return open_database(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            aside = self._folder.set_aside(path, now)
            self._tell("error", f"{path} is damaged ({error}); set aside as {aside}")
            self.lost = True
            return open_database(path)

    def _is_complete(self, segment: Segment) -> bool:
        return segment.done or segment.run < self._run

    def _sizes(self, segments: Iterable[Segment]) -> list[int]:
        return [self._size(self._folder.file(segment)) for segment in segments]

    def _size(self, path: Path) -> int:
        with suppress(FileNotFoundError):
            return path.stat().st_size
        return 0

    def _fold(self, connection: sqlite3.Connection, waiting: list[Segment], now: float) -> None:
        for _, group in groupby(waiting, key=lambda each: (each.run, each.shard)):
            segments = deque(group)
            while segments:
                self._alive()
                self._fold_some(connection, segments, now)

    def _fold_some(
        self, connection: sqlite3.Connection, waiting: deque[Segment], now: float
    ) -> None:
        """Fold segments off the head of `waiting` until that is enough for a transaction."""
        known = database.folded(connection)
        image = Image()
        part = Part(0, 1)
        damaged: dict[Segment, str] = {}
        torn: Segment | None = None
        segments: list[Segment] = []
        read = 0
        while waiting and (torn is not None or (image.size < FOLD_COUNTERS and read < FOLD_BYTES)):
            segment = waiting.popleft()
            segments.append(segment)
            read += self._size(self._folder.file(segment))
            if segment.name in known:
                continue
            try:
                text = read_segment(self._folder.file(segment), segment)
                begun = text.records.end
                image.add(text.records)
                part = Part(segment.shard, text.shards) if begun else part
                if torn is not None and torn.life == segment.life and text.records.end > begun:
                    damaged[torn] = "its end makes no sense, and it was not the last"
                torn = segment if text.torn else None
            except (UnreadableSegmentError, ValueError) as error:
                damaged[segment] = str(error)
        with transaction(connection):
            left_out = database.fold(connection, image, part, [each.name for each in segments])
        if left_out:
            self._tell("error", f"{left_out} counters in the log make no sense; left out")
        for segment in segments:
            path = self._folder.file(segment)
            if segment in damaged:
                aside = self._folder.set_aside(path, now)
                self._tell("error", f"{path} is damaged ({damaged[segment]}); set aside as {aside}")
            else:
                with suppress(FileNotFoundError):
                    os.unlink(path)  # noqa: PTH108 - the path is at hand
        sync_folder(self._folder.log)
        database.unfold(connection, [each.name for each in segments])
