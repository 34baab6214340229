"""The admin socket in the file system: for this user only, and never taken from a living daemon.

Rules
- The file is made with mode 0600; there is no moment in which it has another.
- What a dead daemon left behind is replaced, what a living one holds is not. Daemons that start at
  the same time take turns: each holds a lock on the folder while it looks and binds.
- The file is removed while the socket still listens, so that nobody else's is removed instead.
"""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from daemon.admin_socket import VARIABLE, AdminSocket
from daemon.supervisor.examination import examine_folder, examine_socket
from daemon.supervisor.listeners import ListenError, answers

Had = TypeVar("Had")

BACKLOG = 16
_LOCK_TRIES = 40
_LOCK_PAUSE = 0.05
_ELSEWHERE = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EROFS})
"""What lets a daemon that was told no path try the next one: this one is not for its user."""


class AdminListener:
    """A bound, listening admin socket."""

    def __init__(self, path: str, sock: socket.socket) -> None:
        self.path = path
        self.sock = sock
        self._made = _identity(path)

    def remove(self) -> None:
        """Remove the file, unless it is not the one that was made."""
        with suppress(OSError):
            if _identity(self.path) == self._made:
                Path(self.path).unlink()


def open_listener(where: AdminSocket) -> tuple[AdminListener | None, str]:
    """Return the admin socket, or None with a line that says why there is none.

    Raises:
        ListenError: it was named by the user and cannot be had.
    """

    def take(path: str) -> AdminListener:
        if not where.chosen:
            _make_folder(Path(path).parent)
        return AdminListener(path, _bind(path))

    return _first(where, take)


def examine(where: AdminSocket) -> tuple[str | None, str]:
    """Return where `open_listener` would have it, taking nothing; what is in use is fine.

    Raises:
        ListenError: it was named by the user and cannot be had.
    """

    def look(path: str) -> str:
        folder = Path(path).parent
        if where.chosen or folder.exists():
            examine_socket(Path(path))
        else:
            examine_folder(folder.parent)
        return path

    return _first(where, look)


def _first(where: AdminSocket, have: Callable[[str], Had]) -> tuple[Had | None, str]:
    reasons = []
    for path in where.paths:
        try:
            return have(path), ""
        except OSError as error:
            reasons.append(f"{path} {_explain(error)}")
            if where.chosen:
                raise ListenError(f"{VARIABLE}: {reasons[0]}") from None
            if error.errno not in _ELSEWHERE:
                break
    if not reasons:
        return None, ""
    fix = f"set {VARIABLE} to a path that this user may write, or to none"
    return None, f"no admin socket: {', '.join(reasons)}; {fix}"


def _make_folder(folder: Path) -> None:
    # As systemd's RuntimeDirectory: others may pass through, to listeners that are theirs.
    with suppress(FileExistsError):
        folder.mkdir(mode=0o755)


def _bind(path: str) -> socket.socket:
    with _locked(str(Path(path).parent)):
        _clear(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            sock.bind(path)
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        finally:
            os.umask(mask)
        return sock


def _clear(path: str) -> None:
    """Remove what a dead daemon left behind.

    Raises:
        OSError: somebody listens there, or it is no socket.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.ENOTSOCK, "not a socket")
    if answers(Path(path)):
        raise OSError(errno.EADDRINUSE, "in use")
    Path(path).unlink()


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Hold the folder's lock; it ends with the descriptor, whatever happens."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for left in reversed(range(_LOCK_TRIES)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    raise
                time.sleep(_LOCK_PAUSE)
        yield
    finally:
        os.close(descriptor)


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _explain(error: OSError) -> str:
    return {
        errno.EADDRINUSE: "is in use by another daemon",
        errno.ENOTSOCK: "is there already, and no socket",
        errno.EACCES: "is not permitted for this user",
        errno.EPERM: "is not permitted for this user",
        errno.ENOENT: "lies in a folder that does not exist",
        errno.ENOTDIR: "lies in something that is not a folder",
        errno.EROFS: "lies on a read-only file system",
        errno.EAGAIN: "lies in a folder that another program keeps locked",
    }.get(error.errno or 0, os.strerror(error.errno or 0))
