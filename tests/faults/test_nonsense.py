"""Somebody who speaks nonsense on a socket of ours loses that socket; nobody else notices."""

import json
import os
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgpack
import pytest

from protocol.frames import DECIDE, HELLO, SETTLE, UNDO, pack
from tests.e2e.conftest import wait_for
from tests.faults.clients import asking
from tests.faults.stage import LATE, Stage, request_for, stage

KEYS = ["k1", "k4", "k5"]
SHIM = Path(__file__).parent / "shim"
T = 1_770_000_000_000_000
ITEM = [1, "k1", 1_000_000]
"""A unit of the budget, which is the second rule: the first marks where its keys are missing."""
DEEP = b"\x91" * 5000 + b"\x01"


def framed(body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + body


TO_A_SHARD = {
    "bytes of another protocol": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a length over the limit": b"\xff\xff\xff\xff" + b"x" * 100,
    "no msgpack": framed(b"\xc1" * 20),
    "no array": framed(msgpack.packb({"a": 1})),
    "an empty array": framed(b"\x90"),
    "an array without end": framed(b"\xdd\xff\xff\xff\xff"),
    "arrays in arrays": framed(DEEP),
    "no kind of frame": pack([77, 1, 2, 3]),
    "an unknown generation": pack([DECIDE, 10**6, T, [ITEM]]),
    "a rule that is not there": pack([DECIDE, 1, T, [[999, "k1", 1]]]),
    "a rule before the first": pack([DECIDE, 1, T, [[-99, "k1", 1]]]),
    "a key that is none": pack([DECIDE, 1, T, [[1, {"a": 1}, 1]]]),
    "a cost that is none": pack([DECIDE, 1, T, [[1, "other", "much"]]]),
    "a time that is none": pack([DECIDE, 1, "now", [ITEM]]),
    "a reply instead of a question": pack([T, [1, 2, 3]]),
    "an undo of nothing": pack([UNDO, 1, T, [[0]]]),
    "a settlement of nothing": pack([SETTLE, T, [[1, 2, 3, 4]]]),
    "a greeting without a name": pack([HELLO, b"", 0, 0]),
    "a greeting of another shape": pack([HELLO, "front", 0]),
    "two greetings": pack([HELLO, b"a" * 16, 0, 0]) + pack([HELLO, b"b" * 16, 0, 0]),
}
"""Every one ends its link."""
TORN = [pack([HELLO, b"a" * 16, 0, 0])[:-5], pack([DECIDE, 1, T, [[1, "torn", 5]]])[:-1], b"\x05"]
"""Frames whose rest never comes."""


@contextmanager
def under_load(daemon: Stage) -> Iterator[None]:
    """Have clients ask meanwhile; none of them notices anything."""
    with asking(daemon.where, [request_for(key) for key in KEYS], 4) as books:
        yield
        goal = books.answered + 100
        wait_for(lambda: books.answered >= goal, LATE, "requests are answered")
    assert set(books.statuses) == {200}
    assert books.broken == 0
    wait_for(lambda: paid(daemon) == books.answered, LATE, "the counters say what was answered")


def paid(daemon: Stage) -> int:
    """Return the units on the counters, without those that reading them costs."""
    spent = sum(daemon.spent(KEYS).values()) - daemon.read
    daemon.read += len(KEYS)
    return spent


def shard_socket(daemon: Stage, shard: int) -> str:
    (path,) = daemon.running.folder.glob(f"fairvisor-*/shard-{shard}.sock")
    return str(path)


def test_a_shard_drops_who_speaks_nonsense(tmp_path: Path) -> None:
    with stage(tmp_path, shards=2, worker_processes=1, owner_timeout_ms=5000) as daemon:
        pids = daemon.running.pids()
        paths = [shard_socket(daemon, shard) for shard in (0, 1)]
        with under_load(daemon):
            for number, (name, nonsense) in enumerate(TO_A_SHARD.items()):
                with daemon.running.connect_at(paths[number % 2]) as link:
                    link.send(nonsense)
                    link.sock.settimeout(LATE)
                    with suppress(ConnectionResetError):
                        try:
                            while link.sock.recv(65_536):
                                pass
                        except TimeoutError:
                            pytest.fail(f"the link goes on after {name}")
            for number, torn in enumerate(TORN):
                with daemon.running.connect_at(paths[number % 2]) as link:
                    link.send(torn)
            hand_over_what_is_none(paths[1])
            flood(paths[0])
        assert daemon.running.pids() == pids
        assert daemon.running.said().count("link dropped") >= len(TO_A_SHARD)


def hand_over_what_is_none(path: str) -> None:
    """Greet with descriptors that are no page and no lifeline."""
    with Path("/dev/null").open("rb") as null, Path(__file__).open("rb") as text:
        for handed in ([null.fileno(), text.fileno()], [text.fileno()], [null.fileno()] * 2):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
                link.settimeout(LATE)
                link.connect(path)
                socket.send_fds(link, [pack([HELLO, os.urandom(16), 0, 0])], handed)
                with suppress(ConnectionResetError):
                    link.recv(100)
        # A front that has answered nothing, and is dead: what it asked for is given back.
        alive, end = os.pipe()
        page = os.memfd_create("page")
        os.ftruncate(page, 1 << 17)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(LATE)
            link.connect(path)
            hello = pack([HELLO, os.urandom(16), 0, 0])
            socket.send_fds(link, [hello], [page, alive])
            link.sendall(pack([DECIDE, 1, time.time_ns() // 1000, [ITEM] * 50]))
            assert len(link.recv(65_536)) > 0
        for fd in (alive, end, page):
            os.close(fd)


def flood(path: str) -> None:
    """Open many links that say nothing, and some that say random bytes."""
    rng = random.Random(5)
    links = []
    for _ in range(60):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.connect(path)
        links.append(link)
    for link in links[::2]:
        with suppress(OSError):
            link.sendall(rng.randbytes(rng.randrange(1, 2000)))
    for link in links:
        link.close()


REPLIES: dict[str, Callable[[], bytes]] = {
    "silence and the end": lambda: b"",
    "bytes of another protocol": lambda: b"HTTP/1.1 200 OK\r\n\r\n",
    "a length over the limit": lambda: b"\xff" * 50,
    "replies that nobody asked for": lambda: pack([HELLO, -1, 0]) + pack([T, [1]]) * 3,
    "a greeting of another shape": lambda: pack([HELLO, "all", None]),
    "applied before it was sent": lambda: pack([HELLO, 10**6, 10**6]) + pack([T, [5] * 9]),
    "arrays in arrays": lambda: framed(DEEP),
}


def test_a_front_drops_a_shard_that_speaks_nonsense(tmp_path: Path) -> None:
    """Somebody else listens where shard 1 did; shard 0 goes on, and shard 1 once it is back."""
    with stage(tmp_path, shards=2, worker_processes=1, owner_timeout_ms=300) as daemon:
        path = Path(shard_socket(daemon, 1))
        aside = path.with_name("aside")
        daemon.running.decide("/a", {"X-API-Key": "k4"})
        path.rename(aside)
        impostor = Impostor(str(path))
        impostor.start()
        try:
            daemon.kill("shard 1")
            with asking(daemon.where, [request_for("k4")], 2) as books:
                wait_for(lambda: impostor.served >= 3 * len(REPLIES), LATE, "all was said")
                assert daemon.running.decide("/a", {"X-API-Key": "k1"}).status == 503
                goal = books.answered + 50
                wait_for(lambda: books.answered >= goal, LATE, "shard 0 is asked")
            assert set(books.statuses) == {200}
        finally:
            impostor.stop()
            aside.rename(path)
        assert daemon.spent(["k1"]) == {"k1": 0}
        assert re.search(r"shard 1 answers what cannot be read: ", daemon.running.said())


class Impostor(threading.Thread):
    """Listens like a shard and answers every link with the next nonsense."""

    def __init__(self, path: str) -> None:
        super().__init__(name="impostor")
        self.served = 0
        self._path = path
        self._stopping = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(8)
        self._listener.settimeout(0.05)

    def run(self) -> None:
        says = list(REPLIES.values())
        while not self._stopping.is_set():
            try:
                link, _ = self._listener.accept()
            except TimeoutError:
                continue
            with link:
                link.settimeout(0.2)
                with suppress(OSError):
                    link.recv(65_536)
                    link.sendall(says[self.served % len(says)]())
                    while link.recv(65_536):
                        pass
            self.served += 1
        self._listener.close()

    def stop(self) -> None:
        self._stopping.set()
        self.join()
        Path(self._path).unlink()


@pytest.mark.parametrize("module", ["shard", "daemon.front", "shard.stores"])
def test_a_child_that_speaks_nonsense_is_replaced(tmp_path: Path, module: str) -> None:
    with stage(tmp_path, shards=1, worker_processes=1, python_path=SHIM) as daemon:
        role = {"shard": "shard 0", "daemon.front": "front 0", "shard.stores": "keeper"}[module]
        switch = tmp_path / "nonsense"
        switch.write_text(module)
        daemon.kill(role)  # the next one talks nonsense, and is replaced
        wait_for(lambda: not switch.exists(), LATE, "nonsense was said")
        wait_for(lambda: daemon.running.said().count(f"{role} ended (SIGKILL)") == 2, LATE, "ended")
        wait_for(lambda: role in daemon.running.pids(), LATE, f"another {role}")
        assert sum(daemon.spent(KEYS).values()) == 0


def test_the_admin_socket_survives_nonsense(tmp_path: Path) -> None:
    rng = random.Random(9)
    with stage(tmp_path, shards=1, worker_processes=1) as daemon:
        for nonsense in [
            b"\0" * 100,
            b"GET /" + b"x" * 100_000,
            b"POST /v1/admin/reload HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
            b"POST /v1/admin/reload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFF\r\n",
            b"\x16\x03\x01\x02\x00",
            *(rng.randbytes(rng.randrange(1, 500)) for _ in range(30)),
        ]:
            with daemon.running.connect("admin") as connection, suppress(OSError):
                connection.send(nonsense)
                connection.sock.shutdown(socket.SHUT_WR)
                connection.rest()
        with daemon.running.connect("admin") as connection:
            answer = connection.request("/v1/admin/breakers")
        assert (answer.status, json.loads(answer.body)) == (200, [])
