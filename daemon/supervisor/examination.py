"""Whether the places that settings name could be had, told without taking any of them.

Rules
- A daemon that runs with the same settings is not disturbed: what is in use is fine here. Nothing
  is made, removed, locked or listened at.
- What cannot be told without that (a full disk, who it is that has a port) is left to the start.
"""

import errno
import os
import socket
import stat
from pathlib import Path

from daemon.settings import Address, TcpAddress
from daemon.supervisor.listeners import ListenError, answers, explain
from daemon.supervisor.storage import unusable
from shard.stores.folder import StateError, StateFolder


def examine_address(address: Address, variable: str) -> bool:
    """Return whether somebody listens at an address already.

    Raises:
        ListenError: it is not ours, or not permitted.
    """
    try:
        if isinstance(address, TcpAddress):
            return _taken(address)
        return examine_socket(Path(address.path))
    except OSError as error:
        raise ListenError(explain(address, error, variable)) from None


def _taken(address: TcpAddress) -> bool:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # With this, a bound port that nobody listens at hinders no one else's bind (socket(7)).
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False


def examine_socket(path: Path) -> bool:
    """Return whether somebody listens at the path of a Unix socket.

    Raises:
        OSError: a socket cannot be there, with the number that bind(2) would give.
    """
    examine_folder(path.parent)
    if not path.exists():
        return False
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise OSError(errno.ENOTSOCK, "not a socket")
    return answers(path)


def examine_folder(folder: Path) -> None:
    """Look whether files can be made in a folder.

    Raises:
        OSError: they cannot.
    """
    if not stat.S_ISDIR(folder.stat().st_mode):
        raise OSError(errno.ENOTDIR, "not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        full = os.statvfs(folder)
        raise OSError(errno.EROFS if full.f_flag & os.ST_RDONLY else errno.EACCES, "not writable")


def examine_state(path: Path) -> None:
    """Look whether a state folder could be made, or written to.

    Raises:
        StateError: it could not; one line that names the variable and the fix.
    """
    log = StateFolder(path).log
    try:
        place = next(each for each in (log, *log.parents) if os.path.lexists(each))
        examine_folder(place)
        if place == log:
            examine_folder(path)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise unusable(StateError(f"{path} cannot be written to: {reason}")) from None
