"""Upstream connections against servers that answer well, badly, and not at all."""

import asyncio
import gc
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

import pytest

from daemon.front.plain_responses import PlainResponse
from daemon.front.response_reader import ResponseReader
from daemon.front.upstream_caller import Failure, ResponseHead
from daemon.front.upstream_pool import Budget, Call, Pool, Pools
from daemon.upstream_url import UpstreamUrl

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Asker:
    """Keeps what it is told."""

    done: asyncio.Future[str]
    statuses: list[int] = field(default_factory=list)
    more: list[bool] = field(default_factory=list)
    body: bytes = b""
    sent: int = 0

    def upstream_sent(self) -> None:
        self.sent += 1

    def upstream_head(self, head: ResponseHead, *, more: bool) -> "Asker":
        self.more.append(more)
        self.statuses.append(head.status)
        return self

    def upstream_plain(self, plain: PlainResponse) -> None:
        self.upstream_head(ResponseHead.of(plain), more=True)
        self.upstream_data(plain.body)
        self.upstream_end()

    def upstream_data(self, data: bytes) -> None:
        self.body += data

    def upstream_chunk(self, framed: bytes, start: int) -> None:
        self.upstream_data(framed[start:-2])

    def upstream_end(self) -> None:
        self.done.set_result("end")

    def upstream_failed(self, failure: Failure) -> None:
        self.done.set_result(failure)

    def upstream_full(self) -> None:
        """Nothing is uploaded here."""

    def upstream_drained(self) -> None:
        """Nothing is uploaded here."""


class Bench:
    """A pool and the server that it asks."""

    def __init__(self, peer: Peer, *, limit: int = 8) -> None:
        self._peer = peer
        self._limit = limit
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = url = UpstreamUrl("127.0.0.1", port, tls=False, authority="a")
        self.budget = Budget(self._limit, 100)
        self.pool = Pool(url, 2.0, ssl.create_default_context, self.budget)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.pool.close()
        self._server.close()
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._peer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def call(
        self, *, silence: float = 5.0, headless: bool = False, uploaded: bool = True
    ) -> tuple[Asker, Call]:
        asker = Asker(asyncio.get_running_loop().create_future())
        call = self.pool.send(REQUEST, asker, silence, headless=headless, uploaded=uploaded)
        return asker, call

    async def ask(self, *, silence: float = 5.0, headless: bool = False) -> tuple[str, Asker]:
        asker, _ = self.call(silence=silence, headless=headless)
        return await asyncio.wait_for(asker.done, 10), asker


def says(answer: bytes, *, close: bool = False) -> Peer:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            if close:
                return

    return peer


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "close", "headless", "expected", "connections"),
    [
        (HEAD + b"Content-Length: 3\r\n\r\nabc", False, False, ("end", [200], b"abc"), 1),
        (CHUNKS, False, False, ("end", [200], b"abcde"), 1),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + CHUNKS, False, False,
         ("end", [200], b"abcde"), 1),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKS, False, False, ("end", [200], b"abcde"), 1),
        (HEAD + b"Content-Length: 3\r\n\r\n", False, True, ("end", [200], b""), 1),
        (b"HTTP/1.1 204 No\r\n\r\n", False, False, ("end", [204], b""), 1),
        (b"HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n", False, False, ("end", [304], b""), 1),
        (HEAD + b"\r\nuntil close", True, False, ("end", [200], b"until close"), 2),
        (HEAD + b"Connection: close\r\nContent-Length: 1\r\n\r\na", False, False,
         ("end", [200], b"a"), 2),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", False, False, ("end", [200], b"a"), 2),
        (HEAD + b"Content-Length: 1\r\n\r\nab", False, False, ("end", [200], b"a"), 2),
        # Another answer behind the first is nobody's: none of it may get into the first one's body.
        (HEAD + b"Content-Length: 1\r\n\r\na" + HEAD + b"\r\nof another", False, False,
         ("end", [200], b"a"), 2),
        (HEAD + b"Content-Length: 1\r\n\r\na" + HEAD + b"Content-Length: 2\r\n\r\nbc", False,
         False, ("end", [200], b"a"), 2),
        (CHUNKS + HEAD + b"\r\nof another", False, False, ("end", [200], b"abcde"), 2),
        (HEAD + b"Content-Length: 9\r\n\r\nshort", True, False, ("broken", [200], b"short"), 2),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nab", True, False,
         ("broken", [200], b"ab"), 2),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", False, False,
         ("broken", [], b""), 2),
        (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False, False,
         ("broken", [], b""), 2),
        (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", False, False,
         ("broken", [], b""), 2),
        (HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n", False, False, ("broken", [], b""), 2),
        (HEAD + b"X: y\r\n" * 300 + b"\r\n", False, False, ("broken", [], b""), 2),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", False, False,
         ("broken", [], b""), 2),
        (b"SSH-2.0-x\r\n", False, False, ("broken", [], b""), 2),
        (b"", True, False, ("unanswered", [], b""), 2),
        (HEAD, True, False, ("unanswered", [], b""), 2),
    ],
)  # fmt: skip
def test_answers(
    answer: bytes,
    close: bool,  # noqa: FBT001 - a column of the table
    headless: bool,  # noqa: FBT001 - a column of the table
    expected: tuple[str, list[int], bytes],
    connections: int,
) -> None:
    async def play() -> None:
        async with Bench(says(answer, close=close)) as bench:
            for _ in range(2):
                end, asker = await bench.ask(headless=headless)
                assert (end, asker.statuses, asker.body) == expected
                assert asker.sent == 1
            assert bench.connections == connections

    asyncio.run(play())


def test_a_kept_connection_that_the_upstream_closed_is_not_used() -> None:
    closed = asyncio.Event()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async def play() -> None:
        async with Bench(peer) as bench:
            for _ in range(3):
                closed.clear()
                assert (await bench.ask())[0] == "end"
                await closed.wait()

    asyncio.run(play())


def test_silence_and_nobody_there() -> None:
    async def peer(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def play() -> None:
        async with Bench(peer) as bench:
            end, asker = await bench.ask(silence=0.05)
            assert (end, asker.sent) == ("timeout", 1)
            bench._server.close()
            await bench._server.wait_closed()
            end, asker = await bench.ask()
            assert (end, asker.sent) == ("unreachable", 0)

    asyncio.run(play())


def test_callers_beyond_the_limit_wait_for_a_connection() -> None:
    async def play() -> None:
        async with Bench(says(HEAD + b"Content-Length: 0\r\n\r\n"), limit=2) as bench:
            ends = await asyncio.gather(*(bench.ask() for _ in range(20)))
            assert [end for end, _ in ends] == ["end"] * 20
            assert bench.connections == 2
            assert (bench.budget.opened, bench.budget.waited) == (2, 18)

    asyncio.run(play())


def test_who_leaves_the_line_leaves_nothing_behind() -> None:
    async def play() -> None:
        async with Bench(says(b""), limit=1) as bench:
            _, busy = bench.call()
            waiting = [bench.call()[1] for _ in range(3)]
            waiting[1].cancel()
            waiting[1].cancel()
            assert len(bench.pool._line) == 3  # the first has no connection yet either
            waiting[0].fail("timeout")
            assert len(bench.pool._line) == 2
            assert waiting[1]._request == waiting[0]._request == b""
            busy.cancel()
            waiting[2].cancel()
            assert not bench.pool._line

    asyncio.run(play())


def test_upstreams_share_a_bound_and_a_free_place_is_passed_on() -> None:
    answers = says(HEAD + b"Content-Length: 0\r\n\r\n")

    async def play() -> None:
        async with Bench(answers) as one, Bench(answers) as other:
            budget = Budget(10, 1)
            pools = Pools(5.0, budget)
            first, second = (Asker(asyncio.get_running_loop().create_future()) for _ in "12")
            pools.pool(one.url).send(REQUEST, first, 5.0, headless=False, uploaded=True)
            pools.pool(other.url).send(REQUEST, second, 5.0, headless=False, uploaded=True)
            assert await first.done == "end"
            assert (other.connections, budget.opened, budget.waited) == (0, 1, 1)
            pools.pool(one.url).close()  # as it does by itself when it has been idle
            assert await second.done == "end"
            assert (other.connections, budget.opened) == (1, 1)
            pools.close()

    asyncio.run(play())


def test_a_cancelled_call_hears_nothing_and_its_connection_is_cut() -> None:
    cut = asyncio.Event()
    reading = asyncio.Event()

    async def peer(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reading.set()
        try:
            await reader.read()
        finally:
            cut.set()

    async def play() -> None:
        async with Bench(peer) as bench:
            asker, call = bench.call()
            await reading.wait()
            call.cancel()
            await asyncio.wait_for(cut.wait(), 5)
            assert not asker.done.done()

    asyncio.run(play())


def test_an_answer_before_the_request_is_complete_uses_the_connection_up() -> None:
    async def play() -> None:
        async with Bench(says(HEAD + b"Content-Length: 0\r\n\r\n")) as bench:
            asker, _ = bench.call(uploaded=False)
            assert await asyncio.wait_for(asker.done, 5) == "end"
            assert (await bench.ask())[0] == "end"
            assert bench.connections == 2

    asyncio.run(play())


def test_a_concluded_call_hears_what_had_arrived_and_nothing_later() -> None:
    begun, go_on, sent, left = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        await go_on.wait()
        writer.write(HEAD + b"Content-Length: 9\r\n\r\nabc")
        sent.set()
        await reader.read()
        writer.write(b"def")  # nobody takes it
        left.set()

    async def play() -> None:
        async with Bench(peer) as bench:
            asker, call = bench.call()
            await begun.wait()
            call.pause()
            go_on.set()
            await sent.wait()
            assert asker.statuses == []
            assert call.conclude()
            assert await asyncio.wait_for(asker.done, 5) == "broken"
            assert asker.body == b"abc"
            await asyncio.wait_for(left.wait(), 5)
            assert not call.conclude()

    asyncio.run(play())


@pytest.mark.parametrize("answer", [CHUNKS, HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n"])
def test_a_response_leaves_no_circles_behind(answer: bytes) -> None:
    async def play() -> None:
        async with Bench(says(answer)) as bench:
            for _ in range(5):
                await bench.ask()
            await asyncio.sleep(0)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(play())
        left = [each for each in gc.get_objects() if isinstance(each, ResponseReader)]
    finally:
        gc.enable()
    assert not left
