import os
import select
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest

from daemon.front.records import MAX_LINE_BYTES, RecordWriter, line_of, whole_lines

Pipe = tuple[int, int]


@pytest.fixture(name="pipe")
def _pipe() -> Iterator[Pipe]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


class Timers:
    """The loop's timer, fired by hand."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def __call__(self, _seconds: float, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def fire(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


def read_lines(fd: int, count: int) -> list[dict[str, Any]]:
    data = b""
    while data.count(b"\n") < count:
        ready, _, _ = select.select([fd], [], [], 10.0)
        assert ready, f"{count} lines expected, got {data!r}"
        data += os.read(fd, 65_536)
    return [orjson.loads(line) for line in data.splitlines()]


def test_lines_come_out_in_order_and_whole(pipe: Pipe) -> None:
    timers = Timers()
    writer = RecordWriter(pipe[1], timers)
    for number in range(5):
        writer.submit({"n": number})
    assert len(timers.calls) == 1
    timers.fire()
    assert [each["n"] for each in read_lines(pipe[0], 5)] == [0, 1, 2, 3, 4]
    writer.submit({"n": 5})
    timers.fire()
    assert read_lines(pipe[0], 1) == [{"n": 5}]
    writer.close(5.0)
    assert writer.dropped == 0


def test_nobody_reads_nobody_waits(pipe: Pipe) -> None:
    timers = Timers()
    writer = RecordWriter(pipe[1], timers, max_lines=300)
    for _ in range(20):
        for number in range(100):
            writer.submit({"n": number, "text": "x" * 1000})
        timers.fire()
    # The pipe holds 64 KiB, some 64 of these; 300 wait; the rest is gone.
    assert 1500 <= writer.dropped <= 1700
    accepted = 2000 - writer.dropped
    assert len(read_lines(pipe[0], accepted)) == accepted
    writer.close(5.0)


def test_a_reader_that_leaves_ends_it_quietly(pipe: Pipe) -> None:
    timers = Timers()
    writer = RecordWriter(pipe[1], timers)
    os.close(pipe[0])
    for number in range(10):
        writer.submit({"n": number})
        timers.fire()
    writer.close(5.0)
    assert writer.dropped == 10


def test_closing_writes_what_is_waiting(pipe: Pipe) -> None:
    writer = RecordWriter(pipe[1], Timers())
    writer.submit({"n": 1})
    writer.close(5.0)
    writer.submit({"n": 2})
    assert read_lines(pipe[0], 1) == [{"n": 1}]
    assert writer.dropped == 1


def test_closing_does_not_wait_for_ever(pipe: Pipe) -> None:
    timers = Timers()
    writer = RecordWriter(pipe[1], timers)
    for _ in range(200):
        writer.submit({"text": "x" * 1000})
    writer.close(0.1)
    assert len(read_lines(pipe[0], 200)) == 200


def test_a_non_blocking_pipe_is_waited_for(pipe: Pipe) -> None:
    os.set_blocking(pipe[1], False)
    timers = Timers()
    writer = RecordWriter(pipe[1], timers)
    for _ in range(200):
        writer.submit({"text": "x" * 1000})
    timers.fire()
    assert len(read_lines(pipe[0], 200)) == 200
    writer.close(5.0)
    assert writer.dropped == 0


def test_a_line_is_never_longer_than_one_atomic_write() -> None:
    long = "\x01" * 10_000
    many = {f"header:{number}{long}": long for number in range(100)}
    line = line_of({"path": long, "descriptors": many, "matched": [long] * 100, "n": 1, "x": None})
    assert len(line) <= MAX_LINE_BYTES
    record = orjson.loads(line)
    assert (record["n"], record["cut"]) == (1, True)
    assert "cut" not in orjson.loads(line_of({"path": "/"}))


def test_chunks_hold_whole_lines() -> None:
    lines = [b"x" * size + b"\n" for size in (10, 4000, 90, 4095, 1, 1)]
    chunks = list(whole_lines(lines))
    assert b"".join(chunk for _, chunk in chunks) == b"".join(lines)
    assert [count for count, _ in chunks] == [2, 1, 1, 2]
    assert all(len(chunk) <= MAX_LINE_BYTES for _, chunk in chunks)
