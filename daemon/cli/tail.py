"""The lines of a file or a pipe, and those that are still to come."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from daemon.cli.exits import Failure

LONGEST_LINE = 1 << 20
"""Bytes; longer lines are dropped."""
_CHUNK = 1 << 16
_POLL_SECONDS = 0.2


def lines(path: str | None, *, follow: bool = False) -> Iterator[list[bytes]]:
    """Yield lines in the batches in which they come, without their ends; None is standard input.

    With `follow`, wait at the end of a file for more, also after it has been rotated or truncated.

    Raises:
        Failure: the file cannot be read.
    """
    if path is None or path == "-":
        yield from _batches(_Splitter(), sys.stdin.buffer, end=True)
        return
    try:
        while True:
            with Path(path).open("rb") as file:
                splitter = _Splitter()
                yield from _batches(splitter, file, end=not follow)
                while follow and not _replaced(path, file):
                    time.sleep(_POLL_SECONDS)
                    yield from _batches(splitter, file, end=False)
            if not follow:
                return
    except OSError as error:
        raise Failure(f"{path}: cannot be read: {os.strerror(error.errno or 0)}") from None


def _replaced(path: str, file: BinaryIO) -> bool:
    here = os.fstat(file.fileno())
    try:
        there = Path(path).stat()
    except FileNotFoundError:
        return False  # between the two steps of a rotation
    return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino) or here.st_size < file.tell()


def _batches(splitter: "_Splitter", file: BinaryIO, *, end: bool) -> Iterator[list[bytes]]:
    while chunk := file.read1(_CHUNK):  # type: ignore[attr-defined]  # a buffered reader has it
        yield splitter.feed(chunk)
    if end:
        yield splitter.rest()


class _Splitter:
    """Chunks to whole lines."""

    def __init__(self) -> None:
        self._rest = b""
        self._too_long = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that this chunk completes."""
        *whole, rest = (self._rest + chunk).split(b"\n")
        if whole and self._too_long:
            del whole[0]
            self._too_long = False
        if len(rest) > LONGEST_LINE:
            rest, self._too_long = b"", True
        self._rest = rest
        return whole

    def rest(self) -> list[bytes]:
        """Return the line that has no end, if there is one."""
        return [] if self._too_long or not self._rest else [self._rest]
