"""The sockets of the daemon: public listeners and the shards' meeting places."""

import errno
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from daemon.settings import Address, TcpAddress, UnixAddress
from daemon.supervisor.activation import ActivationError, take_sockets

BACKLOG = 1024
_RUNTIME_PREFIX = "fairvisor-"


class ListenError(Exception):
    """A listener cannot be had; the message is one line that says why and what to do."""


class Listeners:
    """The public listeners of a daemon, and how they are called."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.given = False
        """Whether a service manager made them, and keeps them when the daemon ends."""

    def open(self, addresses: Sequence[Address], backlog: int = BACKLOG) -> None:
        """Take what a service manager passes on, else bind the addresses.

        What was bound before one that fails is for `close`.

        Raises:
            ListenError: the address is in use, not ours, or not permitted; what was passed on is
                not what it should be.
        """
        try:
            self.sockets = take_sockets(os.environ)
        except ActivationError as error:
            raise ListenError(str(error)) from None
        self.given = bool(self.sockets)
        for address in () if self.given else addresses:
            self.sockets.append(bind(address, backlog))

    def adopt(self, fds: Sequence[int], *, given: bool) -> None:
        """Take over the listeners of the program before this one."""
        self.sockets = [socket.socket(fileno=fd) for fd in fds]
        self.given = given

    @property
    def names(self) -> list[str]:
        """The addresses they have."""
        return [_name(each) for each in self.sockets]

    def close(self) -> None:
        """Close them, and remove what they have in the file system unless it was given."""
        while self.sockets:
            sock = self.sockets.pop()
            path = sock.getsockname()
            sock.close()
            if isinstance(path, str) and not self.given:
                Path(path).unlink(missing_ok=True)


def bind(
    address: Address, backlog: int = BACKLOG, variable: str = "FAIRVISOR_LISTEN"
) -> socket.socket:
    """Return a listening, inheritable socket; `backlog` connections may wait to be taken.

    `variable` is who asks for it.

    Raises:
        ListenError: the address is in use, not ours, or not permitted.
    """
    try:
        if isinstance(address, TcpAddress):
            return _bind_tcp(address, backlog)
        return _bind_unix(address, backlog)
    except OSError as error:
        raise ListenError(explain(address, error, variable)) from None


def reserve(
    address: Address, variable: str, *, inherited: bool = False
) -> tuple[str, socket.socket | None]:
    """Return the address that a child may bind by itself, again and again, and what keeps it free.

    A port is kept by a socket that shares it and never listens (SO_REUSEPORT, socket(7)); a port 0
    is chosen. What was left of a Unix socket is removed. `inherited`: a child of the program before
    this one may still have it.

    Raises:
        ListenError: the address is in use, not ours, or not permitted.
    """
    if inherited and isinstance(address, UnixAddress):
        Path(address.path).unlink(missing_ok=True)
        return str(address), None
    if inherited and isinstance(address, TcpAddress) and address.port:
        return str(address), _share(address, address.port, variable)
    # Shared ports would let a second daemon in unseen: first ask for it as one's own.
    with bind(address, variable=variable) as sock:
        if isinstance(address, UnixAddress):
            Path(address.path).unlink()
            return str(address), None
        port = sock.getsockname()[1]
    return str(TcpAddress(address.host, port)), _share(address, port, variable)


def _share(address: TcpAddress, port: int, variable: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    kept = socket.socket(family, socket.SOCK_STREAM)
    try:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind((address.host, port))
    except OSError as error:
        kept.close()
        raise ListenError(explain(address, error, variable)) from None
    return kept


def let_go(address: str, kept: socket.socket | None) -> None:
    """Free the port of a front that binds by itself, or remove the socket that it left."""
    if kept is not None:
        kept.close()
    else:
        Path(address.removeprefix("unix:")).unlink(missing_ok=True)


def _bind_tcp(address: TcpAddress, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address.host, address.port))
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(address: UnixAddress, backlog: int) -> socket.socket:
    path = Path(address.path)
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(errno.ENOTSOCK, "not a socket")
        if answers(path):
            raise OSError(errno.EADDRINUSE, "in use")
        path.unlink()
    return _listen_at(path, backlog)


def _listen_at(path: Path, backlog: int = BACKLOG) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def answers(path: Path) -> bool:
    """Return whether somebody listens on a Unix socket, or whether it was left behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _name(sock: socket.socket) -> str:
    name = sock.getsockname()
    if isinstance(name, bytes):  # an abstract one
        return f"unix:@{name[1:].decode(errors='replace')}"
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def explain(address: Address, error: OSError, variable: str) -> str:
    """Return the line that says why an address that `variable` names cannot be had."""
    why = {
        errno.EADDRINUSE: "is already in use; stop what listens there or choose another address",
        errno.ENOTSOCK: "is there already, and no socket; choose another path",
        errno.EACCES: "is not permitted for this user",
        errno.EADDRNOTAVAIL: "is not an address of this machine",
        errno.ENOENT: "lies in a folder that does not exist",
        errno.ENOTDIR: "lies in something that is not a folder",
        errno.EROFS: "lies on a read-only file system",
    }.get(error.errno or 0, os.strerror(error.errno or 0))
    return f"{variable}: {address} {why}"


class RuntimeFolder:
    """A private folder for the shards' sockets, gone when the daemon is.

    Raises:
        ListenError: there is no place for one.
    """

    def __init__(self, path: str = "", meetings: Sequence[int] = ()) -> None:
        """Make a folder, or take over one with the sockets that are in it."""
        self.meetings = list(meetings)
        """The listening sockets' descriptors, which shards are restarted on."""
        if path:
            self.path = Path(path)
            return
        try:
            _sweep_abandoned()
            self.path = Path(tempfile.mkdtemp(prefix=f"{_RUNTIME_PREFIX}{os.getpid()}-"))
        except OSError as error:
            reason = error.strerror or error
            raise ListenError(f"TMPDIR: no place for the shards' sockets: {reason}") from None

    def shard_sockets(self, count: int) -> list[tuple[str, int]]:
        """Return the path and the descriptor of the listening socket of each shard.

        Raises:
            ListenError: a path is too long for a Unix socket.
        """
        paths = [self.path / f"shard-{index}.sock" for index in range(count)]
        for path in paths[len(self.meetings) :]:
            try:
                self.meetings.append(_listen_at(path).detach())
            except OSError as error:
                raise ListenError(f"TMPDIR: {path}: {error.strerror or error}") from None
        return list(zip(map(str, paths), self.meetings, strict=False))

    def remove(self) -> None:
        """Remove the folder and what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def _sweep_abandoned() -> None:
    """Remove folders of supervisors that were killed before they could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_RUNTIME_PREFIX}[0-9]*-*"):
        owner = folder.name.removeprefix(_RUNTIME_PREFIX).partition("-")[0]
        if not owner.isdigit() or Path(f"/proc/{owner}").exists():
            continue
        with suppress(OSError):
            if folder.stat().st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)
