"""The sockets of the daemon: public listeners and the shards' meeting places."""

import errno
import os
import shutil
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from daemon.settings import Address, TcpAddress, UnixAddress

BACKLOG = 1024
_RUNTIME_PREFIX = "fairvisor-"


class ListenError(Exception):
    """A listener cannot be had; the message is one line that says why and what to do."""


def bind(address: Address, variable: str = "FAIRVISOR_LISTEN") -> socket.socket:
    """Return a listening, inheritable socket; `variable` is who asks for it.

    Raises:
        ListenError: the address is in use, not ours, or not permitted.
    """
    try:
        if isinstance(address, TcpAddress):
            return _bind_tcp(address)
        return _bind_unix(address)
    except OSError as error:
        raise ListenError(_explain(address, error, variable)) from None


def reserve(address: Address, variable: str) -> tuple[str, socket.socket | None]:
    """Return the address that a child may bind by itself, again and again, and what keeps it free.

    A port is kept by a socket that shares it and never listens (SO_REUSEPORT, socket(7)); a port 0
    is chosen. What was left of a Unix socket is removed.

    Raises:
        ListenError: the address is in use, not ours, or not permitted.
    """
    # Shared ports would let a second daemon in unseen: first ask for it as one's own.
    with bind(address, variable) as sock:
        if isinstance(address, UnixAddress):
            Path(address.path).unlink()
            return str(address), None
        port = sock.getsockname()[1]
        family = sock.family
    kept = socket.socket(family, socket.SOCK_STREAM)
    try:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind((address.host, port))
    except OSError as error:
        kept.close()
        raise ListenError(_explain(address, error, variable)) from None
    return str(TcpAddress(address.host, port)), kept


def _bind_tcp(address: TcpAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address.host, address.port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(address: UnixAddress) -> socket.socket:
    path = Path(address.path)
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        if answers(path):
            raise OSError(errno.EADDRINUSE, "in use")
        path.unlink()
    return _listen_at(path)


def _listen_at(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        sock.listen(BACKLOG)
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


def _explain(address: Address, error: OSError, variable: str) -> str:
    why = {
        errno.EADDRINUSE: "is already in use; stop what listens there or choose another address",
        errno.EACCES: "is not permitted for this user",
        errno.EADDRNOTAVAIL: "is not an address of this machine",
        errno.ENOENT: "lies in a folder that does not exist",
        errno.ENOTDIR: "lies in something that is not a folder",
    }.get(error.errno or 0, os.strerror(error.errno or 0))
    return f"{variable}: {address} {why}"


class RuntimeFolder:
    """A private folder for the shards' sockets, gone when the daemon is.

    Raises:
        ListenError: there is no place for one.
    """

    def __init__(self) -> None:
        try:
            _sweep_abandoned()
            self.path = Path(tempfile.mkdtemp(prefix=f"{_RUNTIME_PREFIX}{os.getpid()}-"))
        except OSError as error:
            reason = error.strerror or error
            raise ListenError(f"TMPDIR: no place for the shards' sockets: {reason}") from None

    def shard_socket(self, index: int) -> tuple[str, socket.socket]:
        """Return the path and the listening socket of one shard.

        Raises:
            ListenError: the path is too long for a Unix socket.
        """
        path = self.path / f"shard-{index}.sock"
        try:
            return str(path), _listen_at(path)
        except OSError as error:
            raise ListenError(f"TMPDIR: {path}: {error.strerror or error}") from None

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
