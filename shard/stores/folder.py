"""The state folder: what lies where, whose it is, and what is put aside (behaviour §13.5).

    lock               held by a running daemon, with its process id in it
    counters.db        the database, with its -wal and -shm
    log/*.log          segments that a shard writes, or wrote when it was killed
    log/*.done         segments that are complete, waiting to be folded into the database
    *.damaged-TIME     what could not be read, put aside as it was

The lock is inherited by every process that writes here: as long as one of them lives, nobody else
gets the folder.
"""

import errno
import fcntl
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_WAIT_SECONDS = 3.0
_POLL_SECONDS = 0.05
_LOG, _DONE = ".log", ".done"


class StateError(Exception):
    """The state folder cannot be used; one line that says why and what to do."""


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """One file of a shard's log. Within a run and shard they are written in order."""

    run: int
    shard: int
    life: int
    number: int
    done: bool = False

    @property
    def name(self) -> str:
        """The file's name without its ending; never used twice."""
        return f"{self.run:08d}-{self.shard:03d}-{self.life:06d}-{self.number:010d}"


@dataclass(frozen=True, slots=True)
class StateFolder:
    """The paths below one state folder."""

    path: Path

    @property
    def database(self) -> Path:
        """The database file."""
        return self.path / "counters.db"

    @property
    def log(self) -> Path:
        """The folder of the segments."""
        return self.path / "log"

    def file(self, segment: Segment) -> Path:
        """Return the file of a segment."""
        return self.log / (segment.name + (_DONE if segment.done else _LOG))

    def segments(self) -> list[Segment]:
        """Return the segments that there are, in the order they were written."""
        try:
            found = [_segment(path) for path in self.log.iterdir()]
        except FileNotFoundError:
            return []
        return sorted(segment for segment in found if segment is not None)

    def create(self) -> None:
        """Make the folder and what must be in it, for this user only.

        Raises:
            StateError: it cannot be made or written to.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.log.mkdir(mode=0o700, exist_ok=True)
            probe = self.path / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise StateError(f"{self.path} cannot be written to: {reason}") from None

    def lock(self, wait: float = _WAIT_SECONDS) -> int:
        """Return the descriptor of the lock, which holds it until it is closed.

        Processes of a daemon that was just killed may need a moment to end; they are waited for.

        Raises:
            StateError: somebody else has it.
        """
        try:
            fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise StateError(f"{self.path} cannot be locked: {reason}") from None
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in {errno.EWOULDBLOCK, errno.EACCES} and time.monotonic() < deadline:
                    time.sleep(_POLL_SECONDS)
                    continue
                holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
                os.close(fd)
                who = f" (process {holder})" if holder.isdigit() else ""
                raise StateError(f"{self.path} is in use by another daemon{who}") from None
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            return fd

    def set_aside(self, path: Path, at: float) -> Path:
        """Rename a damaged file, and a database's companions; return its new name."""
        stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = path.with_name(f"{path.name}.damaged-{stamp}")
        count = 1
        while aside.exists():
            count += 1
            aside = path.with_name(f"{path.name}.damaged-{stamp}-{count}")
        path.rename(aside)
        for ending in ("-wal", "-shm"):
            companion = path.with_name(path.name + ending)
            if companion.exists():
                companion.rename(aside.with_name(aside.name + ending))
        return aside


def _segment(path: Path) -> Segment | None:
    parts = path.stem.split("-")
    if path.suffix not in {_LOG, _DONE} or not all(map(str.isdigit, parts)):
        return None
    match [int(part) for part in parts]:
        case [run, shard, life, number]:
            return Segment(run, shard, life, number, done=path.suffix == _DONE)
    return None


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a loss of power."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
