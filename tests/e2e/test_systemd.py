"""As systemd runs the daemon: told of its state, given its sockets (behaviour §13.4, §14)."""

import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Daemon = Any
Serve = Callable[..., Daemon]
Policy = Callable[..., dict[str, Any]]
WaitUntil = Callable[..., None]

LATE = 40.0
RESTARTS = 2
ACTIVATED = Path(__file__).with_name("activated.py")


@pytest.fixture(name="bundle")
def _bundle(bucket_policy: Policy) -> dict[str, Any]:
    policy = bucket_policy("keys", "/key/", "header:x-api-key", 1000, 100_000)
    return {"bundle_version": 1, "policies": [policy]}


class Manager:
    """The socket that systemd listens at, and what was said there."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.said: list[dict[str, str]] = []

    def read(self) -> list[dict[str, str]]:
        """Return all messages so far."""
        try:
            while True:
                lines = self._sock.recv(4096).decode().split("\n")
                self.said.append(dict(line.split("=", 1) for line in lines))
        except BlockingIOError:
            return self.said

    def having(self, name: str) -> list[dict[str, str]]:
        """Return the messages that hold a field."""
        return [message for message in self.read() if name in message]


@pytest.fixture(name="manager")
def _manager(tmp_path: Path) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{tmp_path}")
        sock.setblocking(False)  # noqa: FBT003 - as the standard library has it
        yield Manager(sock)


def test_the_service_manager_is_told(
    serve: Serve, bundle: object, manager: Manager, tmp_path: Path, wait_until: WaitUntil
) -> None:
    daemon = serve(
        bundle,
        ready=False,
        plain={"NOTIFY_SOCKET": f"@{tmp_path}", "WATCHDOG_USEC": "200000"},
        file_poll_interval=60,
    )
    wait_until(lambda: manager.having("READY"), LATE, "ready")
    (ready,) = manager.having("READY")
    assert ready["MAINPID"] == str(daemon.process.pid)
    assert ready["STATUS"] == "bundle version 1 with 1 policies, 1 front(s), 1 shard(s)"
    daemon.until_ready()
    wait_until(lambda: len(manager.having("WATCHDOG")) > 3, LATE, "signs of life")
    began = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(manager.having("READY")) == 2, LATE, "ready again")
    (reloading,) = manager.having("RELOADING")
    assert int(reloading["MONOTONIC_USEC"]) >= began
    order = [name for said in manager.said for name in ("RELOADING", "READY") if name in said]
    assert order == ["READY", "RELOADING", "READY"]
    assert daemon.stop() == 0
    assert [message["STOPPING"] for message in manager.having("STOPPING")] == ["1"]


def test_without_a_front_there_is_no_sign_of_life(
    serve: Serve,
    bundle: object,
    manager: Manager,
    tmp_path: Path,
    wait_until: WaitUntil,
) -> None:
    daemon = serve(
        bundle,
        python_path=tmp_path,
        plain={"NOTIFY_SOCKET": f"@{tmp_path}", "WATCHDOG_USEC": "100000"},
    )
    (tmp_path / "daemon/front").mkdir(parents=True)
    (tmp_path / "daemon/__init__.py").touch()
    (tmp_path / "daemon/front/__init__.py").touch()
    (tmp_path / "daemon/front/__main__.py").write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    os.kill(daemon.pids()["front 0"], signal.SIGKILL)
    wait_until(lambda: "front 0 ended" in daemon.said(), LATE, "its end")
    manager.read()
    manager.said.clear()
    began = time.monotonic()
    while time.monotonic() - began < 1.0:  # ten periods
        assert manager.having("WATCHDOG") == []
        time.sleep(0.05)
    wait_until((tmp_path / "pid").exists, LATE, "a front that does nothing")
    shutil.rmtree(tmp_path / "daemon")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    wait_until(lambda: manager.having("WATCHDOG"), LATE, "signs of life")


@contextmanager
def held(tmp_path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Hold a TCP and a Unix listener as systemd does."""
    with ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(tmp_path / "s"))
        unix.listen(1024)
        yield tcp, unix


def through(*sockets: socket.socket, names: str = "", owner: int = 0) -> dict[str, Any]:
    """Return the arguments of `serve` that start a daemon on sockets that are held."""
    fds = [sock.fileno() for sock in sockets]
    numbers = ",".join(map(str, fds))
    return {
        "through": (sys.executable, str(ACTIVATED), names, numbers, str(owner)),
        "fds": fds,
    }


@dataclass
class Clients:
    """Clients that connect anew for every request, and what became of it."""

    addresses: list[object]
    answered: list[int] = field(default_factory=list)
    refused: int = 0
    lost: list[str] = field(default_factory=list)

    @contextmanager
    def asking(self, daemon: Daemon) -> Iterator[None]:
        stop = threading.Event()

        def ask(address: Any, key: str) -> None:  # noqa: ANN401 - a socket's address
            while not stop.is_set():
                try:
                    with daemon.connect_at(address) as connection:
                        answer = connection.request(
                            headers={"X-Original-URI": "/key/", "X-API-Key": key}
                        )
                        self.answered.append(answer.status)
                except ConnectionRefusedError:
                    self.refused += 1
                except (OSError, EOFError) as error:
                    self.lost.append(repr(error))
                time.sleep(0.002)

        threads = [
            threading.Thread(target=ask, args=(address, f"k{number}"))
            for number, address in enumerate(self.addresses * 2)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(LATE)


def test_a_restart_on_sockets_that_are_held_refuses_nobody(
    serve: Serve, bundle: object, tmp_path: Path, wait_until: WaitUntil
) -> None:
    with held(tmp_path) as (tcp, unix):
        arguments = through(tcp, unix, names="fairvisor:local") | {"worker_processes": 2}
        daemon = serve(bundle, **arguments)
        assert f"ready on 127.0.0.1:{tcp.getsockname()[1]}, unix:{tmp_path / 's'}:" in daemon.said()
        clients = Clients([tcp.getsockname(), str(tmp_path / "s")])
        with clients.asking(daemon):
            for _ in range(RESTARTS):
                before = len(clients.answered)
                wait_until(lambda b=before: len(clients.answered) > b + 50, LATE, "requests")
                assert daemon.stop() == 0
                daemon = serve(bundle, **arguments)
        assert clients.refused == 0
        assert clients.lost == []
        assert set(clients.answered) == {200}
        assert daemon.stop() == 0
        assert (tmp_path / "s").exists()  # it is systemd's


def test_sockets_of_another_process_are_left_alone(
    serve: Serve, bundle: object, tmp_path: Path
) -> None:
    with held(tmp_path) as (tcp, _):
        daemon = serve(bundle, **through(tcp, owner=1))
        assert daemon.port != tcp.getsockname()[1]
        assert daemon.decide("/key/").status == 200


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("deaf", "LISTEN_FDS: descriptor 3 (front-door) does not listen; the socket unit needs"),
        ("datagram", "LISTEN_FDS: descriptor 3 (front-door) is no TCP or Unix stream socket; the"),
        ("file", "LISTEN_FDS: descriptor 3 (front-door) is no socket; the socket unit needs"),
    ],
)
def test_what_is_no_listening_socket_is_named(
    serve: Serve, bundle: object, tmp_path: Path, kind: str, says: str
) -> None:
    with ExitStack() as stack:
        given: Any
        if kind == "file":
            given = stack.enter_context((tmp_path / "f").open("w"))
        else:
            type_ = socket.SOCK_STREAM if kind == "deaf" else socket.SOCK_DGRAM
            given = stack.enter_context(socket.socket(socket.AF_INET, type_))
            given.bind(("127.0.0.1", 0))
        daemon = serve(bundle, ready=False, **through(given, names="front-door"))
        assert daemon.process.wait(LATE) == 1
    (line,) = daemon.said().splitlines()
    assert line.startswith(f"fairvisor: {says}")


def test_with_systemds_own_starter(
    serve: Serve, bundle: object, tmp_path: Path, wait_until: WaitUntil
) -> None:
    program = shutil.which("systemd-socket-activate")
    assert program, "Debian package systemd"
    path = str(tmp_path / "s")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # It hands on nothing of its environment.
    script = tmp_path / "start"
    names = ("PYTHONPATH", "TMPDIR", "XDG_STATE_HOME", "FAIRVISOR_")
    script.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        f"kept = [f'{{n}}={{v}}' for n, v in os.environ.items() if n.startswith({names!r})]\n"
        f"os.execv({program!r}, [{program!r}, '-l', '127.0.0.1:{port}', '-l', {path!r},\n"
        "    '--fdname=tcp:unix', *[f'--setenv={each}' for each in kept], *sys.argv[1:]])\n"
    )
    script.chmod(0o755)
    daemon = serve(bundle, ready=False, through=(str(script),), listen="127.0.0.1:1")
    wait_until(lambda: f"Listening on {path}" in daemon.said(), LATE, "the sockets")
    asked = {"X-Original-URI": "/key/", "X-API-Key": "k"}
    with daemon.connect_at(path) as first:  # it starts the daemon
        assert first.request(headers=asked).status == 200
        with daemon.connect_at(("127.0.0.1", port)) as second:
            assert second.request(headers=asked).status == 200
    assert re.search(rf"ready on 127\.0\.0\.1:{port}, unix:{path}:", daemon.said())
    assert daemon.stop() == 0
    assert Path(path).exists()
