"""Segments of a shard's log: written by the shard, completed and synced beside it, read by others.

Rules
- The decision path only ever writes to an open file, one write a batch. Creating, syncing, closing
  and renaming files is done by a thread: a sync stalls whoever writes to the same file, so only
  files that nobody writes to any more are synced.
- The next segment lies ready before it is needed, its name synced.
- A write that failed may have left half a record. Nothing is ever written behind it: the segment is
  given up, and readers stop where the record is torn.
"""

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

from shard.stores.folder import Segment, StateFolder, sync_folder
from shard.stores.records import MAGIC, Records, encode

FORMAT = 1
MAX_LOG_BYTES = 1 << 30
"""Bytes of a shard's log that may wait to be folded; more means that nobody folds."""


@dataclass(frozen=True, slots=True)
class Files:
    """The system calls that a full or broken disk makes fail."""

    write: Callable[[int, bytes], int] = os.write
    sync: Callable[[int], None] = os.fdatasync


class SegmentFile:
    """One open segment."""

    __slots__ = ("_files", "fd", "segment", "size")

    def __init__(self, folder: StateFolder, segment: Segment, shards: int, files: Files) -> None:
        self.segment = segment
        self._files = files
        self.size = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self.fd = os.open(folder.file(segment), flags, 0o600)
        try:
            self.write(MAGIC + encode([FORMAT, shards]))
        except OSError:
            os.close(self.fd)
            folder.file(segment).unlink(missing_ok=True)
            raise

    def write(self, data: bytes) -> None:
        """Append all of `data`.

        Raises:
            OSError: not all of it could be written; nothing more may be.
        """
        try:
            self._write(data)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self.fd, self.size)  # half a record would pass for damage
            raise
        self.size += len(data)

    def _write(self, data: bytes) -> None:
        written = self._files.write(self.fd, data)
        if written != len(data):
            # the rest says why: a full disk takes what fits first
            rest = data[written:]
            if self._files.write(self.fd, rest) != len(rest):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> None:
        """Wait until what was written is on the disk.

        Raises:
            OSError: it is not, and nobody knows how much of it.
        """
        self._files.sync(self.fd)


class SegmentChain:
    """The segments of one life of a shard, each begun before the last is complete.

    `error` is what a thread ran into; it is for the writer to look at.
    """

    def __init__(
        self,
        folder: StateFolder,
        first: Segment,
        shards: int,
        files: Files,
        max_bytes: int = MAX_LOG_BYTES,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._shards = shards
        self._files = files
        self.error: OSError | None = None
        self.current = SegmentFile(folder, first, shards, files)
        self._last_made = first
        self._spare: SegmentFile | None = None
        self._work: SimpleQueue[SegmentFile | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._complete_all, name="sync", daemon=True)
        self._thread.start()

    @property
    def last(self) -> Segment:
        """The newest segment that exists."""
        return self._last_made

    def rotate(self) -> bool:
        """Go on in the next segment if that lies ready; the last one is completed elsewhere."""
        spare = self._spare
        if spare is None:
            return False
        self._spare = None
        self._work.put(self.current)
        self.current = spare
        return True

    def abandon(self) -> None:
        """Write no more; what was written is completed as far as it can be."""
        self._work.put(self.current)
        self._work.put(None)

    def close(self) -> None:
        """Complete what was written, and wait for that."""
        self.abandon()
        self._thread.join()

    def _complete_all(self) -> None:
        # Whatever fails here fails one file; the writer hears of it by `error`.
        self._prepare()
        while (file := self._work.get()) is not None:
            try:
                file.sync()
            except OSError as error:
                self.error = error
            os.close(file.fd)
            with suppress(OSError):
                path = self._folder.file(file.segment)
                path.rename(self._folder.file(replace(file.segment, done=True)))
            self._prepare()
        spare, self._spare = self._spare, None
        if spare is not None:
            os.close(spare.fd)
            with suppress(OSError):
                self._folder.file(spare.segment).unlink()

    def _prepare(self) -> None:
        if self._spare is not None:
            return
        following = replace(self._last_made, number=self._last_made.number + 1)
        self._last_made = following
        try:
            self._check_size()
            spare = SegmentFile(self._folder, following, self._shards, self._files)
            sync_folder(self._folder.log)
        except OSError as error:
            self.error = error
            return
        self._spare = spare

    def _check_size(self) -> None:
        waiting = 0
        for segment in self._folder.segments():
            if segment.shard == self.current.segment.shard:
                with suppress(FileNotFoundError):
                    waiting += self._folder.file(segment).stat().st_size
        if waiting > self._max_bytes:
            raise OSError(errno.EFBIG, f"{waiting >> 20} MiB of log wait to be folded")


@dataclass(frozen=True, slots=True)
class SegmentText:
    """A segment as it was read; `records` gives what follows the head, once."""

    segment: Segment
    shards: int
    records: Records

    @property
    def torn(self) -> int:
        """How many bytes behind the records that were given are no whole record."""
        return self.records.left


class UnreadableSegmentError(Exception):
    """A segment that is none, or one of a format that this version does not know."""


def read_segment(path: Path, segment: Segment) -> SegmentText:
    """Return what is in a segment's file.

    Raises:
        OSError: it cannot be read.
        UnreadableSegmentError: its head is not that of a segment of this version.
    """
    data = path.read_bytes()
    if not data.startswith(MAGIC[: len(data)]):
        raise UnreadableSegmentError("it does not begin as a log does")
    records = Records(data[len(MAGIC) :])
    head = next(iter(records), None)
    if head is None:  # killed while it was being made
        return SegmentText(segment, 1, records)
    match head:
        case [format_, int(shards)] if format_ == FORMAT and shards > 0:
            return SegmentText(segment, shards, records)
    raise UnreadableSegmentError(f"its format is {head[0]!r}, not {FORMAT}")
