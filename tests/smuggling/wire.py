"""Raw connections: many texts at once to a server, and an upstream that keeps what comes."""

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import h11

from tests.upstreams.serving import Serving

SECONDS = 60.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
AT_ONCE = 64


class Seen(NamedTuple):
    """One complete request."""

    method: str
    target: str
    body: bytes


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def exchange(port: int, texts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Send each text on a connection of its own; return what came until the server closed it."""

    async def one(name: str, text: bytes, turn: asyncio.Semaphore) -> tuple[str, bytes]:
        async with turn:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            answer = b""
            with suppress(ConnectionError):
                writer.write(text)
                await writer.drain()
                while more := await asyncio.wait_for(reader.read(65_536), SECONDS):
                    answer += more
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            return name, answer

    async def everything() -> dict[str, bytes]:
        turn = asyncio.Semaphore(AT_ONCE)
        return dict(await asyncio.gather(*[one(*each, turn) for each in texts.items()]))

    return asyncio.run(everything())


@dataclass
class Kept:
    """What one connection to the upstream brought: bytes, requests, and what is wrong with them."""

    raw: bytes = b""
    seen: list[Seen] = field(default_factory=list)
    heads: list[list[tuple[bytes, bytes]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    closed: bool = False


class Upstream:
    """Reads requests with h11 and answers with what `answers(target)` says, else an empty 200."""

    def __init__(self, answers: Callable[[str], list[bytes] | None] = lambda _: None) -> None:
        self.port = 0
        self.kept: list[Kept] = []
        self.seen: list[Seen] = []
        self._answers = answers

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept = Kept()
        self.kept.append(kept)
        with suppress(ConnectionError):
            await self._read(kept, reader, writer)
        kept.closed = True

    async def _answered(self, target: str, writer: asyncio.StreamWriter) -> bool:
        """Write an answer; return whether the connection stays."""
        pieces = self._answers(target)
        for piece in [OK] if pieces is None else pieces:
            if not piece:
                return False
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)  # so that pieces are read apart
        return True

    async def _read(
        self, kept: Kept, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        connection = h11.Connection(h11.SERVER)
        request, body = h11.Request(method="GET", target="/", headers=[("Host", "a")]), b""
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError as error:
                kept.faults.append(str(error))
                return
            match event:
                case h11.NEED_DATA:
                    data = await reader.read(65_536)
                    kept.raw += data
                    connection.receive_data(data)
                case h11.Request():
                    request, body = event, b""
                case h11.Data():
                    body += bytes(event.data)
                case h11.EndOfMessage():
                    method, target = request.method.decode(), request.target.decode("latin-1")
                    kept.seen.append(Seen(method, target, body))
                    self.seen.append(kept.seen[-1])
                    kept.heads.append(list(request.headers))
                    if not await self._answered(target, writer):
                        return
                    connection.send(
                        h11.Response(status_code=200, headers=[("Content-Length", "0")])
                    )
                    connection.send(h11.EndOfMessage())
                    if connection.our_state is not h11.DONE:
                        return
                    connection.start_next_cycle()
                case _:
                    return


@contextmanager
def running(upstream: Upstream) -> Iterator[Upstream]:
    """Run an upstream in a thread of its own."""
    serving = Serving(upstream.serve)
    upstream.port = serving.port
    try:
        yield upstream
    finally:
        serving.stop()
