"""Listening sockets that a service manager has made for the daemon: sd_listen_fds(3).

LISTEN_FDS descriptors begin at 3; LISTEN_PID says whose they are, LISTEN_FDNAMES how they are
called. What is meant for another process is left alone, as the manual page says.
"""

import os
import socket
from collections.abc import MutableMapping

_FIRST = 3
_MOST = 64
_FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6, socket.AF_UNIX})
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class ActivationError(Exception):
    """The descriptors are not what the daemon needs; one line that says which and why."""


def take_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """Return the sockets that were passed to this process, in order; none if there are none.

    The variables are removed: they do not concern its children.

    Raises:
        ActivationError: a descriptor is not a listening stream socket, or their number no number.
    """
    pid, count, names = (environ.pop(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()):
        return []
    if not count.isdecimal() or int(count) > _MOST:
        raise ActivationError(f"LISTEN_FDS: '{count}' is not a number from 0 to {_MOST}")
    called = dict(enumerate(names.split(":") if names else []))
    sockets: list[socket.socket] = []
    try:
        for index in range(int(count)):
            sockets.append(_taken(_FIRST + index, called.get(index, "")))  # noqa: PERF401 - closed on failure
    except ActivationError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _taken(fd: int, name: str) -> socket.socket:
    what = f"LISTEN_FDS: descriptor {fd}" + (f" ({name})" if name else "")
    fix = "the socket unit needs ListenStream= and Accept=no"
    try:
        sock = socket.socket(fileno=os.dup(fd))
    except OSError:
        raise ActivationError(f"{what} is no socket; {fix}") from None
    if sock.family not in _FAMILIES or sock.type != socket.SOCK_STREAM:
        wrong = "is no TCP or Unix stream socket"
    elif not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        wrong = "does not listen"
    else:
        os.close(fd)
        return sock
    sock.close()
    raise ActivationError(f"{what} {wrong}; {fix}")
