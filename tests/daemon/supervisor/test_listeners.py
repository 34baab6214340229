"""Listening sockets: had, refused with a reason, cleaned up."""

import os
import re
import socket
import stat
from pathlib import Path

import pytest

from daemon.settings import TcpAddress, UnixAddress
from daemon.supervisor.listeners import ListenError, RuntimeFolder, bind, reserve


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tcp(host: str) -> None:
    with bind(TcpAddress(host, 0)) as listener:
        socket.create_connection(listener.getsockname(), 5).close()


def test_tcp_in_use() -> None:
    with bind(TcpAddress("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"FAIRVISOR_LISTEN: 127\.0\.0\.1:{port} is already"):
            bind(TcpAddress("127.0.0.1", port))


def test_an_address_of_another_machine() -> None:
    with pytest.raises(ListenError, match="is not an address of this machine"):
        bind(TcpAddress("192.0.2.1", 0))


def test_unix(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bind(UnixAddress(str(path))), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_unix_socket_in_use_stays(tmp_path: Path) -> None:
    address = UnixAddress(str(tmp_path / "s"))
    with bind(address):
        with pytest.raises(ListenError, match=re.escape(f"{address} is already in use")):
            bind(address)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address.path)


def test_a_unix_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    address = UnixAddress(str(tmp_path / "s"))
    bind(address).close()
    with bind(address), socket.socket(socket.AF_UNIX) as client:
        client.connect(address.path)


def test_a_file_is_not_taken_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ListenError, match="is there already, and no socket; choose another"):
        bind(UnixAddress(str(path)))
    assert path.read_text() == "precious"


def test_a_reserved_port_is_kept_for_who_shares_it() -> None:
    where, kept = reserve(TcpAddress("127.0.0.1", 0), "FAIRVISOR_ENVOY_LISTEN")
    assert kept is not None
    host, _, port = where.rpartition(":")
    with kept:
        with pytest.raises(ListenError, match="FAIRVISOR_LISTEN"):
            bind(TcpAddress(host, int(port)))
        for _ in range(2):  # also after its owner was killed
            with socket.socket() as owner:
                owner.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                owner.bind((host, int(port)))
                owner.listen()
                # What only keeps the port takes no connections.
                for _ in range(20):
                    socket.create_connection((host, int(port)), 5).close()
                    owner.accept()[0].close()


def test_a_port_that_another_one_shares_is_in_use() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ListenError, match=r"FAIRVISOR_ENVOY_LISTEN: .* is already in use"):
            reserve(TcpAddress("127.0.0.1", other.getsockname()[1]), "FAIRVISOR_ENVOY_LISTEN")


def test_a_reserved_unix_socket_is_nobodys_yet(tmp_path: Path) -> None:
    address = UnixAddress(str(tmp_path / "s"))
    bind(address).close()  # left behind
    assert reserve(address, "FAIRVISOR_ENVOY_LISTEN") == (str(address), None)
    assert list(tmp_path.iterdir()) == []
    with bind(address), pytest.raises(ListenError, match=r"FAIRVISOR_ENVOY_LISTEN: .* in use"):
        reserve(address, "FAIRVISOR_ENVOY_LISTEN")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("missing/s", "in a folder that does not exist"),
        ("file/s", "something that is not a folder"),
    ],
)
def test_a_place_that_is_none(tmp_path: Path, path: str, why: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ListenError, match=why):
        bind(UnixAddress(str(tmp_path / path)))


def test_the_runtime_folder_is_private_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", ".")  # pytest's own path may be too long for a socket
    folder = RuntimeFolder()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    ((path, fd),) = folder.shard_sockets(1)
    with socket.socket(fileno=fd), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_no_place_for_a_runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(ListenError, match="TMPDIR: no place for the shards' sockets: No such file"):
        RuntimeFolder()


def test_a_runtime_folder_with_too_long_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(ListenError, match=r"TMPDIR: .*AF_UNIX path too long"):
        RuntimeFolder().shard_sockets(1)


def test_folders_of_the_dead_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("fairvisor-4999999-dead", f"fairvisor-{os.getpid()}-alive", "fairvisor-x-other"):
        (tmp_path / name).mkdir()
    folder = RuntimeFolder()
    left = {path.name.rpartition("-")[2] for path in tmp_path.iterdir() if path != folder.path}
    assert left == {"alive", "other"}
