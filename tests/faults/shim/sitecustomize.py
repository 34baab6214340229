"""Faults from outside: a disk that fails, a clock that is wrong, a child that talks nonsense.

Files beside the state folder say which.
Every Python process of a daemon that is started with this folder on its path imports it first.

    disk-fault    the errno with which writes to logs fail; without room (ENOSPC) one write is taken
                  in part before
    clock-ahead   the seconds that the clock is ahead
    nonsense      the module of a child that says nonsense to its supervisor, once
"""

import errno
import os
import sys
import time
from pathlib import Path

_FOLDER = Path(os.environ["FAIRVISOR_STATE_DIR"]).parent
_DISK, _CLOCK = _FOLDER / "disk-fault", _FOLDER / "clock-ahead"
_NONSENSE = _FOLDER / "nonsense"
_write, _sync, _time_ns = os.write, os.fdatasync, time.time_ns
_torn: set[int] = set()


def _said(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _fault_of(fd: int) -> int:
    fault = _said(_DISK)
    if fault and Path(f"/proc/self/fd/{fd}").readlink().suffix == ".log":
        return fault
    return 0


def write(fd: int, data: bytes) -> int:
    """Write unless the disk fails; os.write(2) otherwise."""
    fault = _fault_of(fd)
    if fault == errno.ENOSPC and fd not in _torn:
        _torn.add(fd)
        return _write(fd, data[: len(data) // 2])
    _torn.discard(fd)
    if fault:
        raise OSError(fault, os.strerror(fault))
    return _write(fd, data)


def fdatasync(fd: int) -> None:
    """Bring to the disk unless that fails."""
    fault = _fault_of(fd)
    if fault:
        raise OSError(fault, os.strerror(fault))
    _sync(fd)


def time_ns() -> int:
    """Return the time of day, ahead."""
    return _time_ns() + _said(_CLOCK) * 10**9


def _say_nonsense() -> None:
    try:
        module = _NONSENSE.read_text()
    except OSError:
        return
    if sys.orig_argv[2:4] != ["-m", module]:
        return
    _NONSENSE.unlink()
    number = 4 if module == "shard.stores" else 5  # its control socket's place among arguments
    _write(int(sys.orig_argv[number]), b"\xff\xff\xff\xff nonsense \xc1" * 100)


os.write, os.fdatasync = write, fdatasync
time.time_ns = time_ns
time.time = lambda: time_ns() / 1e9
_say_nonsense()
