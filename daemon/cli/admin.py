"""The daemon on this host, asked over its admin socket (§17)."""

import errno
import json
import os
import socket
from http.client import HTTPConnection, HTTPException
from typing import Any

import click

from daemon.admin_socket import VARIABLE, admin_socket
from daemon.cli.exits import RemoteFailure

TIMEOUT_SECONDS = 15.0
"""Longer than the daemon itself waits for its processes."""
MAX_ANSWER_BYTES = 16 << 20
_ELSEWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED, errno.EACCES})


class _UnixConnection(HTTPConnection):
    """HTTP over a socket that is connected already."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self.sock = connected


def call(method: str, path: str, document: object = None, *, at: str | None) -> tuple[int, Any]:
    """Return the status and the JSON answer of an admin call; `at` is the socket, if named.

    Raises:
        RemoteFailure: no daemon there, no answer in time, or none that is ours.
        BadParameter: what is named cannot be a socket's path.
    """
    connected, name = _connect(at)
    body = None if document is None else json.dumps(document).encode()
    connection = _UnixConnection(connected)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read(MAX_ANSWER_BYTES))
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else "not an answer of ours"
        raise RemoteFailure(f"{name}: {why}") from None
    finally:
        connection.close()


def _connect(at: str | None) -> tuple[socket.socket, str]:
    try:
        where = admin_socket({**os.environ, VARIABLE: at} if at else os.environ)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--socket") from None
    if not where.paths:
        raise RemoteFailure(f"{VARIABLE} is none: the daemon has no admin socket")
    failures = []
    for path in where.paths:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(TIMEOUT_SECONDS)
        try:
            sock.connect(path)
        except OSError as error:
            sock.close()
            failures.append(f"{path}: {_explain(error)}")
            if error.errno not in _ELSEWHERE:
                break
        else:
            return sock, path
    raise RemoteFailure("; ".join(failures))


def _explain(error: OSError) -> str:
    return {
        errno.ENOENT: "no such socket; is the daemon running, with this FAIRVISOR_ADMIN_SOCKET?",
        errno.ECONNREFUSED: "nobody answers; is the daemon running?",
        errno.EACCES: "not permitted; only root and the daemon's user may use it",
    }.get(error.errno or 0, error.strerror or "cannot be reached")
