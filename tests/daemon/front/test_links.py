"""A link against a shard that the test plays, over a real Unix socket; no sleeps, no mocks."""

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from daemon.front.answered import Lifeline
from daemon.front.links import Link
from protocol.answered import LAST_SLOT, PAGE_BYTES, is_answered
from protocol.frames import DECIDE, HELLO, SETTLE, UNDO, FrameReader, pack

PATIENCE = 5.0


class Asked:
    """An owner that remembers what it was told."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[object, ...]] = asyncio.Queue()

    def reply(self, shard: int, charged_at: int, reply: object) -> None:
        self.told.put_nowait(("reply", shard, charged_at, reply))

    def late(self, shard: int, charged_at: int, reply: object) -> None:
        self.told.put_nowait(("late", shard, charged_at, reply))

    def unavailable(self, shard: int) -> None:
        self.told.put_nowait(("unavailable", shard))

    async def hears(self) -> tuple[object, ...]:
        return await asyncio.wait_for(self.told.get(), PATIENCE)


class Shard:
    """The other end: frames as they come, replies as the test says."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.frames: asyncio.Queue[list[object]] = asyncio.Queue()
        self.greetings: list[list[Any]] = []
        self.welcome: list[object] = [HELLO, -1, 0]
        self._writers: list[asyncio.StreamWriter] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def open(self, reading: asyncio.Event | None = None) -> None:
        """Listen; beyond the greeting nothing is read until `reading`."""
        self._reading = reading
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        frames = FrameReader()
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                for frame in frames.feed(data):
                    if frame[0] == HELLO:
                        self.greetings.append(frame)
                        writer.write(pack(self.welcome))
                    else:
                        self.frames.put_nowait(frame)
                if self._reading is not None:
                    await self._reading.wait()
        writer.close()

    async def next(self) -> list[object]:
        return await asyncio.wait_for(self.frames.get(), PATIENCE)

    def say(self, message: object) -> None:
        self._writers[-1].write(pack(message))

    def hang_up(self) -> None:
        self._writers[-1].transport.abort()

    def refuse(self) -> None:
        """Be gone, and not be back."""
        self._server.close()
        self.hang_up()

    async def left(self) -> None:
        """Close, and wait until every connection has run to its end."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        while self._serving:
            await asyncio.wait(self._serving)


@asynccontextmanager
async def linked(
    tmp_path: Path,
    timeout: float = PATIENCE,  # noqa: ASYNC109 - the link's own
    **bounds: int,
) -> AsyncIterator[tuple[Link, Shard]]:
    shard = Shard(tmp_path / "s")
    await shard.open()
    link = Link(3, shard.path, timeout, lambda: 1_000_000, **bounds)
    link.start()
    await asyncio.wait_for(link.connected(), PATIENCE)
    try:
        yield link, shard
    finally:
        link.stop()
        await asyncio.wait_for(shard.left(), PATIENCE)


async def until_down(link: Link) -> None:
    while link.up:  # noqa: ASYNC110 - it has no event for its end
        await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 4 * PATIENCE))


def test_what_one_turn_asks_leaves_in_one_frame_and_comes_back_in_order(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path) as (link, shard):
            first, second = Asked(), Asked()
            link.decide(1, [0, "a", 5], first)
            link.decide(1, [0, "b", 6], second)
            assert await shard.next() == [DECIDE, 1, 1_000_000, [[0, "a", 5], [0, "b", 6]]]
            shard.say([77, [9, -3]])
            assert await first.hears() == ("reply", 3, 77, 9)
            assert await second.hears() == ("reply", 3, 77, -3)

    run(test)


def test_generations_never_share_a_frame_and_undos_go_first(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path) as (link, shard):
            link.decide(1, [0, "a", 5], Asked())
            link.decide(2, [0, "a", 5], Asked())
            link.undo(1, [[0, "z", 1, 2, None, b""]])
            link.settle(b"rid", [1, 2, 3], Asked())
            kinds = [(await shard.next())[:2] for _ in range(4)]
            assert kinds == [[DECIDE, 1], [UNDO, 1], [DECIDE, 2], [SETTLE, 1_000_000]]

    run(test)


async def down(link: Link) -> None:
    while link.up:  # noqa: ASYNC110 - the link tells nobody
        await asyncio.sleep(0)


def test_what_is_held_goes_to_the_next_life_of_the_shard(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path) as (link, shard):
            assert link.quiet
            link.hold(PATIENCE)
            asked, settled = Asked(), Asked()
            link.decide(1, [0, "a", 5], asked)  # the shard is still there, and not asked
            assert not link.quiet
            shard.hang_up()
            await down(link)
            link.settle(b"rid", None, settled)
            await asyncio.wait_for(link.connected(), PATIENCE)
            assert await shard.next() == [DECIDE, 1, 1_000_000, [[0, "a", 5]]]
            assert await shard.next() == [SETTLE, 1_000_000, [[b"rid", None]]]
            shard.say([77, [9]])
            shard.say([78, [None]])
            assert await asked.hears() == ("reply", 3, 77, 9)
            assert await settled.hears() == ("reply", 3, 78, None)
            assert link.quiet

    run(test)


def test_nothing_is_held_for_ever(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path) as (link, shard):
            link.hold(0.05)
            shard.refuse()
            await down(link)
            asked = Asked()
            link.decide(1, [0, "a", 5], asked)
            assert await asked.hears() == ("unavailable", 3)
            later = Asked()
            link.decide(1, [0, "a", 5], later)
            assert await later.hears() == ("unavailable", 3)

    run(test)


def test_a_shard_that_stays_is_asked_what_was_held(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path) as (link, shard):
            link.hold(0.02)
            link.decide(1, [0, "a", 5], Asked())
            assert await shard.next() == [DECIDE, 1, 1_000_000, [[0, "a", 5]]]

    run(test)


def test_a_silent_shard_is_given_up_and_its_answer_is_late(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path, timeout=0.02) as (link, shard):
            asked, next_one = Asked(), Asked()
            link.decide(1, [0, "a", 5], asked)
            await shard.next()
            assert await asked.hears() == ("unavailable", 3)
            link.decide(1, [0, "b", 5], next_one)
            await shard.next()
            shard.say([7, [1]])
            shard.say([8, [2]])
            assert await asked.hears() == ("late", 3, 7, 1)
            assert (await next_one.hears())[0] in {"reply", "unavailable"}

    run(test)


def test_a_lost_shard_is_told_to_everybody_and_found_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path) as (link, shard):
            sent = Asked()
            link.decide(1, [0, "a", 5], sent)
            await shard.next()
            shard.hang_up()
            assert await sent.hears() == ("unavailable", 3)
            await asyncio.wait_for(link.connected(), PATIENCE)
            link.decide(1, [0, "c", 5], sent)
            assert (await shard.next())[3] == [[0, "c", 5]]
            shard.say([7, [4]])
            assert await sent.hears() == ("reply", 3, 7, 4)

    run(test)


def test_what_must_be_taken_back_waits_for_the_shard(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path) as (link, shard):
            asked = Asked()
            link.decide(1, [0, "a", 5], asked)
            await shard.next()
            shard.hang_up()
            assert await asked.hears() == ("unavailable", 3)
            link.undo(1, [[0, "a", 5, 7, None, b""]])
            assert await shard.next() == [UNDO, 1, 1_000_000, [[0, "a", 5, 7, None, b""]]]

    run(test)


def test_replies_that_fit_no_question_end_the_link(tmp_path: Path) -> None:
    async def test() -> None:
        for nonsense in ([7, [1, 2]], [7], ["now", [1]], [7, 5]):
            async with linked(tmp_path) as (link, shard):
                asked = Asked()
                link.decide(1, [0, "a", 5], asked)
                await shard.next()
                shard.say(nonsense)
                assert await asked.hears() == ("unavailable", 3)

    run(test)


def test_what_a_broken_link_leaves_open_is_counted(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path) as (link, shard):
            answered, orphan = Asked(), Asked()
            link.undo(1, [[0, "y", 5, 7, None, b""]])
            link.decide(1, [0, "a", 5], answered)
            await shard.next()
            await shard.next()
            shard.say([77, [9]])
            assert (await answered.hears())[0] == "reply"
            link.undo(1, [[0, "z", 5, 7, None, b""]] * 2)
            link.decide(1, [0, "a", 5], orphan)
            link.settle(b"rid", [1, 2, 3], orphan)
            for _ in range(3):
                await shard.next()
            shard.hang_up()
            assert await orphan.hears() == ("unavailable", 3)
            await asyncio.wait_for(link.connected(), PATIENCE)
            assert link.losses == {"undo": 2, "decision": 1}

    run(test)


def test_requests_are_numbered_over_the_links_connections(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path) as (link, shard):
            asked = Asked()
            numbers = [link.decide(1, [0, "a", 5], asked), link.decide(2, [0, "b", 5], asked)]
            assert numbers == [1, 2]
            await shard.next()
            shard.hang_up()
            assert (await asked.hears())[0] == "unavailable"
            assert link.decide(2, [0, "c", 5], asked) == 0
            await asyncio.wait_for(link.connected(), PATIENCE)
            assert link.decide(2, [0, "d", 5], asked) == 3
            assert [greeting[3] for greeting in shard.greetings] == [0, 2]

    run(test)


def test_the_shard_gets_the_page_and_the_lifeline(tmp_path: Path) -> None:
    async def test() -> None:
        path = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen()
            lifeline = Lifeline()
            link = Link(3, path, PATIENCE, lambda: 1_000_000, lifeline)
            link.start()
            loop = asyncio.get_running_loop()
            listener.settimeout(0)
            sock, _ = await asyncio.wait_for(loop.sock_accept(listener), PATIENCE)
            with sock:
                sock.settimeout(PATIENCE)
                data, (page, end), _, _ = socket.recv_fds(sock, 65_536, 5)
                assert FrameReader().feed(data)[0][0] == HELLO
                link.answered[7 & LAST_SLOT] = 7
                noted = os.pread(page, PAGE_BYTES + 1, 0)
                assert len(noted) == PAGE_BYTES
                assert [number for number in range(1, 20) if is_answered(noted, number)] == [7]
                poll = select.poll()
                poll.register(end, 0)
                assert poll.poll(0) == []
                os.close(lifeline._held)
                assert poll.poll(PATIENCE * 1000) == [(end, select.POLLHUP)]
                os.close(page)
                os.close(end)
            link.stop()
            os.close(lifeline.fd)

    run(test)


def test_beyond_its_queue_a_shard_is_not_waited_for(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path, queue=2) as (link, shard):
            waiting, third = [Asked(), Asked()], Asked()
            for asked in waiting:
                link.decide(1, [0, "a", 5], asked)
            link.decide(1, [0, "a", 5], third)
            assert third.told.get_nowait() == ("unavailable", 3)
            await shard.next()
            link.settle(b"rid", [1, 2, 3], third)
            assert third.told.get_nowait() == ("unavailable", 3)
            assert link.failures == {"queue": 2}
            shard.say([77, [9, 9]])
            assert [(await asked.hears())[0] for asked in waiting] == ["reply", "reply"]
            link.decide(1, [0, "a", 5], third)
            await shard.next()
            shard.say([77, [9]])
            assert await third.hears() == ("reply", 3, 77, 9)

    run(test)


def test_what_a_shard_does_not_read_is_bounded_in_bytes(tmp_path: Path) -> None:
    async def test() -> None:
        shard = Shard(tmp_path / "s")
        reading = asyncio.Event()
        await shard.open(reading)
        link = Link(3, shard.path, PATIENCE, lambda: 1_000_000, buffer=100_000)
        link.start()
        await asyncio.wait_for(link.connected(), PATIENCE)
        owners = []
        while not link.failures:
            assert len(owners) < 1000
            owners.append(Asked())
            link.decide(1, [0, "k" * 10_000, 5], owners[-1])
            await asyncio.sleep(0)
        assert link.failures == {"queue": 1}
        assert owners[-1].told.get_nowait() == ("unavailable", 3)
        reading.set()
        for _ in owners[:-1]:
            await shard.next()
            shard.say([77, [9]])
        assert [(await asked.hears())[0] for asked in owners[:-1]] == ["reply"] * (len(owners) - 1)
        last = Asked()
        link.decide(1, [0, "a", 5], last)
        await shard.next()
        shard.say([77, [9]])
        assert await last.hears() == ("reply", 3, 77, 9)
        link.stop()
        await asyncio.wait_for(shard.left(), PATIENCE)

    run(test)


def test_a_shard_that_only_talks_nonsense_is_not_asked_again_and_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with linked(tmp_path) as (link, shard):
            loop = asyncio.get_running_loop()
            began = loop.time()
            for _ in range(6):
                await asyncio.wait_for(link.connected(), PATIENCE)
                shard.say(["nonsense"])
                await until_down(link)
            await asyncio.wait_for(link.connected(), PATIENCE)
            assert loop.time() - began > 0.01 + 0.02 + 0.04 + 0.08 + 0.16
            asked = Asked()
            link.decide(1, [0, "a", 5], asked)
            await shard.next()
            shard.say([77, [9]])
            assert (await asked.hears())[0] == "reply"
            shard.hang_up()
            await until_down(link)
            await asyncio.wait_for(link.connected(), PATIENCE)
            assert link.failures == {"lost": 0}

    run(test)
    assert len(caplog.records) == 1
    assert "shard 3 answers what cannot be read: a reply that nobody asked for" in caplog.text


def test_one_reply_that_makes_no_sense_does_not_take_the_others_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Picky(Asked):
        def reply(self, shard: int, charged_at: int, reply: object) -> None:
            super().reply(shard, charged_at, 1 // int(str(reply)))

    async def test() -> None:
        async with linked(tmp_path) as (link, shard):
            owners = [Picky(), Picky(), Picky()]
            for asked in owners:
                link.decide(1, [0, "a", 5], asked)
            await shard.next()
            shard.say([77, [1, 0, 1]])
            assert [(await asked.hears())[3] for asked in (owners[0], owners[2])] == [1, 1]
            assert link.up

    run(test)
    assert "ZeroDivisionError at " in caplog.text
