"""The roll call of connections on real sockets: limits, deadlines, the end."""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest
import uvloop

from daemon.engine.client_address import TrustedProxies
from daemon.front import http1 as http1_module
from daemon.front.census import Uncounted
from daemon.front.http1 import HttpConnection
from daemon.front.inbound import Inbound
from daemon.front.peers import PeerCounts
from daemon.front.server import Server

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HELD = b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n"
END = b"\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
TINY = 0.05


@dataclass
class Bounds:
    max_head_bytes: int = 4096
    max_body_bytes: int = 4096
    max_header_fields: int = 128
    max_pipelined: int = 64
    header_timeout: float = 30.0
    min_body_rate: int = 1024
    send_timeout: float = 30.0
    idle_timeout: float = 30.0


class App:
    verbatim = False

    def __init__(self) -> None:
        self.held: asyncio.Queue[HttpConnection] = asyncio.Queue()

    def handle(self, connection: HttpConnection, inbound: Inbound) -> None:
        if inbound.target == b"/held":
            self.held.put_nowait(connection)
        else:
            connection.respond(OK)


class Census(Uncounted):
    def __init__(self, refused: list[str]) -> None:
        super().__init__(logging.getLogger("fairvisor"))
        self._refused = refused

    def turned_away(self, reason: str, peer: str) -> None:
        self._refused.append(f"{reason} {peer}")


class House:
    """A server with its listener, what it reported, and its clients."""

    def __init__(self, bounds: Bounds, limit: int) -> None:
        self.app = App()
        self.refused: list[str] = []
        self.peers = PeerCounts(3)
        self.server = Server(
            self.app,
            bounds,
            TrustedProxies.parse("127.0.0.1"),
            Census(self.refused),
            self.peers,
            max_connections=limit,
            max_turned_away=3,
        )
        self.listener = socket.create_server(("127.0.0.1", 0))
        self._address = self.listener.getsockname()
        self._clients: list[asyncio.StreamWriter] = []

    async def connect(self, data: bytes = b"", source: str = "") -> asyncio.StreamReader:
        """Open a connection and send bytes; return where the answers come."""
        local = (source, 0) if source else None
        reader, writer = await asyncio.open_connection(*self._address, local_addr=local)
        self._clients.append(writer)
        writer.write(data)
        return reader

    async def status(self, source: str = "") -> bytes:
        """Return the status of a request on a connection that then stays open."""
        reader = await self.connect(GET, source)
        return (await reader.readuntil(END))[9:12]

    def leave(self, number: int) -> None:
        """Close one of the clients' connections."""
        self._clients[number].close()

    async def close(self) -> None:
        for writer in self._clients:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        await self.server.drain(5)


def play(
    scene: Callable[[House], Awaitable[None]], bounds: Bounds | None = None, limit: int = 100
) -> None:
    async def run() -> None:
        house = House(bounds or Bounds(), limit)
        await house.server.listen([house.listener])
        try:
            await asyncio.wait_for(scene(house), 30)
        finally:
            await house.close()

    uvloop.run(run())


def test_a_connection_over_the_limit_is_told_so_and_a_place_is_free_again() -> None:
    async def scene(house: House) -> None:
        assert [await house.status() for _ in range(2)] == [b"200"] * 2
        assert [await house.status() for _ in range(3)] == [b"503"] * 3
        assert house.refused == ["listener 127.0.0.1"] * 3
        house.leave(0)
        await asyncio.sleep(TINY)
        assert await house.status() == b"200"  # those turned away take no place

    play(scene, limit=2)


def test_a_peer_has_a_limit_of_its_own_and_a_trusted_one_none() -> None:
    async def scene(house: House) -> None:
        assert [await house.status("127.0.0.2") for _ in range(4)] == [b"200"] * 3 + [b"503"]
        assert house.refused == ["peer 127.0.0.2"]
        assert await house.status("127.0.0.3") == b"200"
        assert [await house.status() for _ in range(5)] == [b"200"] * 5
        house.leave(0)
        await asyncio.sleep(TINY)
        assert await house.status("127.0.0.2") == b"200"
        assert len(house.peers) == 2

    play(scene)


def test_those_turned_away_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(house: House) -> None:
        loop = asyncio.get_running_loop()
        await house.status()
        oldest = await house.connect()
        assert await oldest.readuntil(END)
        began = loop.time()
        for _ in range(3):
            assert await house.status() == b"503"
        with suppress(ConnectionResetError):
            await oldest.read()
        assert loop.time() - began < 10  # cut before its time was up

    monkeypatch.setattr(http1_module, "LINGER_SECONDS", 20.0)
    play(scene, limit=1)


def test_deadlines_are_kept_and_never_early() -> None:
    async def scene(house: House) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await (await house.connect()).read() == b""
        assert loop.time() - began >= TINY
        began = loop.time()
        assert (await (await house.connect(b"GET / HT")).read()).startswith(b"HTTP/1.1 408 ")
        assert loop.time() - began >= TINY

    play(scene, Bounds(header_timeout=TINY))


def test_the_clock_is_never_behind() -> None:
    async def scene(house: House) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(12):
            assert loop.time() <= house.server.clock
            await asyncio.sleep(0.1)

    play(scene)


def test_a_drain_waits_for_answers_and_lets_idle_connections_go() -> None:
    async def scene(house: House) -> None:
        idle = await house.connect(GET)
        await idle.readuntil(END)
        held = await house.connect(HELD)
        answer = (await house.app.held.get()).respond
        drain = asyncio.ensure_future(house.server.drain(20))
        assert await idle.read() == b""
        assert not drain.done()
        house.listener.close()
        with pytest.raises(ConnectionRefusedError):
            await house.connect()
        answer(OK)
        assert await held.read() == OK + b"Connection: close\r\n\r\n"
        await drain

    play(scene)


def test_a_drain_without_connections_is_quick() -> None:
    async def scene(house: House) -> None:
        began = time.monotonic()
        await house.server.drain(20)
        assert time.monotonic() - began < 10

    play(scene)


def test_a_drain_ends_when_its_time_is_up() -> None:
    async def scene(house: House) -> None:
        held = await house.connect(HELD)
        await house.app.held.get()
        await house.server.drain(0.3)
        with suppress(ConnectionResetError):
            assert await held.read() == b""

    play(scene)


def test_who_is_trusted() -> None:
    async def scene(house: House) -> None:
        trusted = [house.server.is_trusted(peer) for peer in ("", "127.0.0.1", "192.0.2.1")]
        assert trusted == [True, True, False]

    play(scene)
