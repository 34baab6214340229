"""Read streams from servers, in a process of its own: `python -m bench.stream_load JOB`.

JOB is JSON. With `streams`, every one of `connections` reads so many streams one after the other
from the first server, and the figures are those of whole streams. With `rate`, requests start at
fixed times whatever became of those before them (open loop), each at the next server in turn, and
the figures are times to the first byte of the answer, by server.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import uvloop

DONE = b"data: [DONE]"
LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Job:
    """What to do: at most one of `streams` and `rate` (requests per second) is not 0."""

    ports: list[int]
    path: str
    body: str
    headers: dict[str, str]
    connections: int = 0
    streams: int = 0
    rate: float = 0.0
    seconds: float = 0.0


class StreamClient(asyncio.Protocol):
    """One connection; `done` is called with each complete answer and its time to first byte."""

    def __init__(
        self, request: bytes, done: Callable[["StreamClient", bytes, float], None]
    ) -> None:
        self._request = request
        self._done = done
        self._pieces: list[bytes] = []
        self._first = 0.0
        self.busy = self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def ask(self) -> None:
        """Send the request."""
        self.busy = True
        self._pieces.clear()
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Collect the answer up to its last chunk."""
        if not self._pieces:
            self._first = time.perf_counter() - self._sent
        self._pieces.append(data)
        if data.endswith(LAST_CHUNK) or b"".join(self._pieces[-2:]).endswith(LAST_CHUNK):
            self.busy = False
            self._done(self, b"".join(self._pieces), self._first)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail loudly: no answer of a benchmark may be lost. Idle connections may be closed."""
        self.gone = True
        if self.busy:
            sys.exit(f"a connection ended in mid-stream: {error}")


def request(job: Job) -> bytes:
    """Return the bytes of one request."""
    lines = [f"POST {job.path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in job.headers.items()]
    lines.append(f"Content-Length: {len(job.body)}")
    return ("\r\n".join(lines) + "\r\n\r\n" + job.body).encode()


def chunks_of(answer: bytes) -> int:
    """Return how many tokens' events an answer has.

    Exits if it is not a whole stream.
    """
    if not answer.startswith(b"HTTP/1.1 200 ") or DONE not in answer:
        sys.exit(f"not a whole stream: {answer[:300]!r} … {answer[-100:]!r}")
    return answer.count(b'"content":')


async def read_streams(job: Job) -> dict[str, Any]:
    """Read all streams of a job; figures of the first bytes in µs."""
    loop = asyncio.get_running_loop()
    finished = asyncio.Event()
    chunks = running = 0
    firsts: list[float] = []
    left: dict[StreamClient, int] = {}

    def done(client: StreamClient, answer: bytes, first: float) -> None:
        nonlocal chunks, running
        chunks += chunks_of(answer)
        firsts.append(first)
        left[client] -= 1
        if left[client]:
            client.ask()
            return
        running -= 1
        if not running:
            finished.set()

    asked = request(job)
    for _ in range(job.connections):
        _, client = await loop.create_connection(
            lambda: StreamClient(asked, done), "127.0.0.1", job.ports[0]
        )
        left[client] = job.streams
    running = len(left)
    started = time.perf_counter()
    for client in left:
        client.ask()
        await asyncio.sleep(0.0005)  # streams in step would be an easier load than real ones
    await finished.wait()
    return {
        "streams": len(firsts),
        "chunks": chunks,
        "seconds": time.perf_counter() - started,
        **percentiles(firsts),
    }


async def time_first_bytes(job: Job) -> dict[str, Any]:
    """Ask each server in turn at a fixed rate; return its first bytes' percentiles by port."""
    loop = asyncio.get_running_loop()
    asked = request(job)
    idle: dict[int, list[StreamClient]] = {port: [] for port in job.ports}
    firsts: dict[int, list[float]] = {port: [] for port in job.ports}
    under_way = 0

    async def start(port: int) -> None:
        nonlocal under_way

        def done(client: StreamClient, answer: bytes, first: float) -> None:
            nonlocal under_way
            under_way -= 1
            chunks_of(answer)
            firsts[port].append(first)
            idle[port].append(client)

        under_way += 1
        idle[port] = [each for each in idle[port] if not each.gone]
        if idle[port]:
            client = idle[port].pop()
        else:
            _, client = await loop.create_connection(
                lambda: StreamClient(asked, done), "127.0.0.1", port
            )
        client.ask()

    begin = loop.time()
    total = int(job.rate * job.seconds)
    for n in range(total):
        await asyncio.sleep(max(0.0, begin + n / job.rate - loop.time()))
        await start(job.ports[n % len(job.ports)])
    for _ in range(1000):
        if not under_way:
            break
        await asyncio.sleep(0.01)
    # What each server has to set up once (connections, first requests) is not what is asked.
    return {str(port): percentiles(each[10:]) for port, each in firsts.items()}


def percentiles(firsts: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in µs."""
    ranked = sorted(firsts)
    return {
        "p50_us": ranked[len(ranked) // 2] * 1e6,
        "p99_us": ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)] * 1e6,
    }


def main() -> None:
    """Do the job of the command line; print its figures as JSON."""
    job = Job(**json.loads(sys.argv[1]))
    print(json.dumps(uvloop.run(time_first_bytes(job) if job.rate else read_streams(job))))


if __name__ == "__main__":
    main()
