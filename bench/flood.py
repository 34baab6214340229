"""What a flood of idle and slow connections does to those who only want an answer.

Rules
- Idle connections have asked once and stay, which is the longest that a client may stay for
  nothing; slow ones send a head a byte at a time and come back when they are cut off.
- They come from several loopback addresses that nobody trusts, each with no more connections than
  one peer may have.
- Good clients ask one after the other on a few connections of their own, so their latency is that
  of a request, not of a queue. Bytes of the flood are sent between requests, in the same thread.
- Before, during and after are phases of one run. A phase is cut into windows; its p99 is the median
  of the windows', because on a shared machine a single tail says more about the neighbours.
"""

import math
import os
import resource
import select
import socket
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import cpu, servers
from bench.scenarios import bucket, bundle, policy

IDLE: Final = 10_000
SLOW: Final = 200
PER_PEER: Final = 1_000
GOOD: Final = 8
WINDOWS: Final = 9
DRIP_SECONDS: Final = 0.25
_OPENING: Final = 256
"""Connections that are being opened at the same time: fewer than wait in the system's queue."""
_WAIT_SECONDS: Final = 30.0
_RESERVE: Final = 200
_REQUEST = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
_HEAD = b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: "

_BUNDLE = bundle(policy("clients", {"pathPrefix": "/"}, [bucket("per-key", "header:x-api-key")]))

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Phase:
    """What good clients saw, in µs, and what the server took for it: CPU-µs a request, bytes."""

    name: str
    p50_us: float
    p99_us: float
    cpu_us: float
    memory: int
    descriptors: int


def allow_descriptors(wanted: int) -> None:
    """Raise this process's limit of open files as far as is wanted.

    Raises:
        ValueError: the hard limit is too low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def sources(count: int) -> Iterator[str]:
    """Yield a loopback address for each of `count` connections, `PER_PEER` of them alike."""
    for number in range(count):
        yield f"127.1.0.{1 + number // PER_PEER}"


class Flood:
    """Idle and slow connections to one address. Close it to have them all gone."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._slow: list[tuple[str, socket.socket]] = []
        self._idle: list[socket.socket] = []
        self._dripped = 0.0
        self.reopened = 0

    def open(self, idle: int, slow: int) -> None:
        """Open connections: `idle` that have been answered, and `slow` that never finish."""
        allow_descriptors(idle + slow + _RESERVE)
        froms = list(sources(idle + slow))
        for first in range(0, idle, _OPENING):
            batch = [self._connect(each) for each in froms[first : min(first + _OPENING, idle)]]
            self._idle += batch
            for sock in batch:
                sock.sendall(_REQUEST)
            for sock in batch:
                if b" 200 OK" not in sock.recv(4096):
                    raise ConnectionError("an idle connection was not answered")
        for source in froms[idle:]:
            self._slow.append((source, self._begin(source)))

    def drip(self) -> None:
        """Send the next byte on every slow connection, if it is time; replace what was cut off."""
        now = time.monotonic()
        if now - self._dripped < DRIP_SECONDS:
            return
        self._dripped = now
        cut = _heard_from(sock for _, sock in self._slow)
        for number, (source, sock) in enumerate(self._slow):
            if sock.fileno() in cut:
                sock.close()
                self._slow[number] = source, self._begin(source)
                self.reopened += 1
            else:
                with suppress(OSError):  # cut off just now
                    sock.sendall(b"x")

    @property
    def standing(self) -> int:
        """How many idle connections the server has not closed."""
        return len(self._idle) - len(_heard_from(self._idle))

    def close(self) -> None:
        """Leave."""
        for sock in (*self._idle, *(sock for _, sock in self._slow)):
            sock.close()

    def _begin(self, source: str) -> socket.socket:
        sock = self._connect(source)
        sock.sendall(_HEAD)
        return sock

    def _connect(self, source: str) -> socket.socket:
        return socket.create_connection(self._address, _WAIT_SECONDS, (source, 0))


def _heard_from(socks: Iterable[socket.socket]) -> set[int]:
    """Return the descriptors of those on which something came: here that is always the end."""
    poll = select.poll()
    for sock in socks:
        poll.register(sock, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(0)}


def measure(command: str | None, requests: int) -> list[Phase]:
    """Flood a daemon; return what good clients see before, during and after.

    `command` is another build to start; there are `requests` in each window.
    """
    settings = {
        "FAIRVISOR_TRUSTED_PROXIES": "127.0.0.1",
        "FAIRVISOR_HEADER_TIMEOUT": "3",
        # Neighbours on a shared machine must not pass for a shard that is gone.
        "FAIRVISOR_OWNER_TIMEOUT_MS": "10000",
    }
    with (
        tempfile.TemporaryDirectory(prefix="fairvisor-bench-") as folder,
        servers.fairvisor(Path(folder) / "daemon", _BUNDLE, settings, command) as server,
        good_clients(("127.0.0.1", server.port)) as clients,
        closing(Flood(("127.0.0.1", server.port))) as attack,
    ):
        phase("warm", server.pid, clients, requests)
        phases = [phase("before", server.pid, clients, requests)]
        attack.open(IDLE, SLOW)
        phases.append(phase("during", server.pid, clients, requests, attack))
        attack.close()
        deadline = time.monotonic() + _WAIT_SECONDS
        while descriptors(server.pid) > phases[0].descriptors and time.monotonic() < deadline:
            time.sleep(0.05)
        phases.append(phase("after", server.pid, clients, requests))
    return phases


def table(phases: list[Phase]) -> str:
    """Return the phases as aligned text."""
    lines = ["        p50 µs  p99 µs  CPU-µs/req  memory MB  descriptors"]
    lines += [
        f"{each.name:7} {each.p50_us:6.0f}  {each.p99_us:6.0f}  {each.cpu_us:10.0f}"
        f"  {each.memory / 1e6:9.1f}  {each.descriptors:11}"
        for each in phases
    ]
    before, during, *_ = phases
    grown = (during.memory - before.memory) / (IDLE + SLOW)
    return "\n".join((*lines, f"{grown:,.0f} bytes of memory for each connection"))


@contextmanager
def good_clients(address: Address) -> Iterator[list[socket.socket]]:
    """Open the connections of those who want an answer."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(address, _WAIT_SECONDS))
            for _ in range(GOOD)
        ]


def phase(
    name: str, pid: int, clients: list[socket.socket], requests: int, flood: Flood | None = None
) -> Phase:
    """Ask `requests` times in each of `WINDOWS` windows; `pid` is the server's process."""
    before = cpu.seconds(cpu.tree(pid))
    windows: list[list[float]] = []
    for window in range(WINDOWS):
        latencies = []
        for number in range(requests):
            if flood is not None:
                flood.drip()
            latencies.append(_ask(clients[number % len(clients)], window * requests + number))
        windows.append(sorted(latencies))
    spent = cpu.seconds(cpu.tree(pid)) - before
    return Phase(
        name,
        statistics.median(statistics.median(each) for each in windows) * 1e6,
        statistics.median(each[math.ceil(len(each) * 0.99) - 1] for each in windows) * 1e6,
        spent * 1e6 / (WINDOWS * requests),
        memory(pid),
        descriptors(pid),
    )


def _ask(client: socket.socket, number: int) -> float:
    request = b"GET /v1/decision HTTP/1.1\r\nHost: a\r\nX-API-Key: good-%d\r\n\r\n" % (number % 64)
    began = time.perf_counter()
    client.sendall(request)
    answer = client.recv(65_536)
    took = time.perf_counter() - began
    if not answer.startswith(b"HTTP/1.1 200 ") or b"\r\nRateLimit: " not in answer:
        raise ConnectionError(f"a good client was answered {answer[:200]!r}")
    return took


def memory(root: int) -> int:
    """Return the resident bytes of a process and its descendants."""
    pages = 0
    for process in cpu.tree(root):
        with suppress(OSError):
            pages += int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(root: int) -> int:
    """Return how many files a process and its descendants have open."""
    count = 0
    for process in cpu.tree(root):
        with suppress(OSError):
            count += len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
    return count
