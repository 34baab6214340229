"""What is told to a service manager, and to whom (sd_notify(3))."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.supervisor.service_manager import ServiceManager


@pytest.fixture(name="manager")
def _manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{tmp_path}")
        sock.settimeout(5)
        yield sock


def test_what_is_told(manager: socket.socket, tmp_path: Path) -> None:
    told = ServiceManager({"NOTIFY_SOCKET": f"@{tmp_path}"})
    told.ready("well")
    assert manager.recv(999) == f"READY=1\nMAINPID={os.getpid()}\nSTATUS=well".encode()
    told.status("so so")
    assert manager.recv(999) == b"STATUS=so so"
    told.stopping()
    assert manager.recv(999).startswith(b"STOPPING=1\nSTATUS=")
    told.alive()
    manager.setblocking(False)  # noqa: FBT003 - as the standard library has it
    with pytest.raises(BlockingIOError):  # no watchdog, no sign of life
        manager.recv(999)


def test_reloads_that_overlap_are_ready_when_the_last_is(
    manager: socket.socket, tmp_path: Path
) -> None:
    told = ServiceManager({"NOTIFY_SOCKET": f"@{tmp_path}"})
    began = time.monotonic_ns() // 1000
    with told.reloading(lambda: "new"), told.reloading(lambda: "newer"):
        for _ in range(2):
            first, second, _ = manager.recv(999).decode().split("\n")
            assert first == "RELOADING=1"
            assert int(second.removeprefix("MONOTONIC_USEC=")) >= began
    assert manager.recv(999).startswith(b"READY=1\n")
    manager.setblocking(False)  # noqa: FBT003 - as above
    with pytest.raises(BlockingIOError):
        manager.recv(999)


def test_signs_of_life_while_all_is_well(manager: socket.socket, tmp_path: Path) -> None:
    told = ServiceManager({"NOTIFY_SOCKET": f"@{tmp_path}", "WATCHDOG_USEC": "20000",
                           "WATCHDOG_PID": str(os.getpid())})  # fmt: skip
    assert told.watchdog == 0.02
    asked: list[int] = []

    def healthy() -> bool:
        asked.append(len(asked))
        return len(asked) == 2

    async def scene() -> None:
        alive = asyncio.create_task(told.keep_alive(healthy))
        while len(asked) < 4:  # noqa: ASYNC110 - it is what is watched
            await asyncio.sleep(0.005)
        alive.cancel()

    asyncio.run(scene())
    assert manager.recv(999) == b"WATCHDOG=1"
    manager.setblocking(False)  # noqa: FBT003 - as above
    with pytest.raises(BlockingIOError):
        manager.recv(999)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "1000000"},
        {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "1000000"},
    ],
)
def test_a_watchdog_that_is_not_ours(environ: dict[str, str]) -> None:
    manager = ServiceManager(environ)
    assert manager.watchdog == 0
    manager.alive()
    manager.ready("to nobody")


def test_a_manager_that_is_gone_hinders_nobody(tmp_path: Path) -> None:
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("well")
