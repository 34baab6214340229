"""Lines to standard output that no decision waits for (behaviour §19).

Theory
- The loop appends lines to a list; a timer hands the list to one thread, which alone may block on
  a full pipe. What is waiting is bounded; a line too many is dropped and counted.
- Every front writes to the same pipe. A write of at most PIPE_BUF bytes is not mixed with others
  (pipe(7)), so lines are at most that long and one write holds whole lines only.
"""

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Final

import orjson

MAX_LINES: Final = 10_000
MAX_LINE_BYTES: Final = select.PIPE_BUF
HAND_OVER_SECONDS: Final = 0.05

_SHORT_CHARS: Final = (512, 128, 32, 8)
_FEW: Final = 8

Later = Callable[[float, Callable[[], None]], object]


class RecordWriter:
    """Writes lines to a descriptor. `later(seconds, call)` is the loop's timer."""

    def __init__(self, fd: int, later: Later, *, max_lines: int = MAX_LINES) -> None:
        self._fd = fd
        self._later = later
        self._max_lines = max_lines
        self._lines: list[bytes] = []
        self._batches: SimpleQueue[list[bytes] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        # Each figure has one writer, the loop or the thread, so that no lock is needed.
        self._accepted = 0
        self._overflowed = 0
        self._done = 0
        self._lost = 0
        self._ended = False
        self._closed = False

    @property
    def dropped(self) -> int:
        """Lines that did not reach the descriptor: no room, or it failed."""
        return self._overflowed + self._lost

    def submit(self, record: dict[str, object]) -> None:
        """Queue a record; never waits."""
        if self._closed or self._accepted - self._done >= self._max_lines:
            self._overflowed += 1
            return
        self._lines.append(line_of(record))
        self._accepted += 1
        if len(self._lines) == 1:
            self._later(HAND_OVER_SECONDS, self._hand_over)

    def close(self, seconds: float) -> None:
        """Write what is waiting, for at most `seconds`, and end."""
        if self._closed:
            return
        self._closed = True
        self._hand_over()
        if self._thread is not None:
            self._batches.put(None)
            self._thread.join(seconds)

    def _hand_over(self) -> None:
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="records", daemon=True)
            self._thread.start()
        self._batches.put(lines)

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            for count, chunk in whole_lines(batch):
                if not self._write(chunk):
                    self._lost += count
                self._done += count

    def _write(self, chunk: bytes) -> bool:
        """Write a chunk whole; return False if it could not be."""
        while chunk and not self._ended:
            try:
                chunk = chunk[os.write(self._fd, chunk) :]
            except BlockingIOError:
                # Somebody who shares the descriptor made it non-blocking.
                with suppress(OSError, ValueError):
                    select.select([], [self._fd], [], 1.0)
            except OSError as error:
                # A full disk may have room again; a reader that went away stays away.
                self._ended = isinstance(error, BrokenPipeError) or error.errno in _GONE
                return False
        return not chunk


_GONE = frozenset({9, 22, 32})  # EBADF, EINVAL, EPIPE


def line_of(record: dict[str, object]) -> bytes:
    """Return a record as one line of at most `MAX_LINE_BYTES`; long texts are cut to fit."""
    line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    for chars in _SHORT_CHARS:
        if len(line) <= MAX_LINE_BYTES:
            return line
        shorter = {name: _shortened(value, chars) for name, value in record.items()}
        line = orjson.dumps(shorter | {"cut": True}, option=orjson.OPT_APPEND_NEWLINE)
    return line


def _shortened(value: object, chars: int) -> object:
    if isinstance(value, str):
        return value[:chars]
    if isinstance(value, list):
        return [_shortened(each, chars) for each in value[:_FEW]]
    if isinstance(value, dict):
        few = sorted(value.items())[:_FEW]
        return {key[:chars]: _shortened(each, chars) for key, each in few}
    return value


def whole_lines(lines: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (number of lines, their bytes) in chunks of at most `MAX_LINE_BYTES`."""
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        if chunk and size + len(line) > MAX_LINE_BYTES:
            yield len(chunk), b"".join(chunk)
            chunk, size = [], 0
        chunk.append(line)
        size += len(line)
    if chunk:
        yield len(chunk), b"".join(chunk)
