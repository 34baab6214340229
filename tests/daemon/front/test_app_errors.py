"""What a front answers when deciding one request goes wrong."""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from daemon.front.app import App
from daemon.front.http1 import HttpConnection
from daemon.front.inbound import Inbound
from daemon.front.links import Link
from daemon.front.rate_limited_log import RateLimitedLog
from daemon.front.recorder import Recorder
from daemon.front.records import RecordWriter
from daemon.front.tally import Tally

if TYPE_CHECKING:
    from tests.daemon.conftest import Box, Play

REQUEST = Inbound("GET", b"/v1/decision/a", {b"host": b"h"}, b"", "127.0.0.1", trusted=True)


class Client:
    """A connection's side towards the app: keeps the answers."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def respond(self, head: bytes, body: bytes = b"", _about_to: object = None) -> None:
        self.answers.append(head + body)


class Shard:
    """A link that answers at once, from the box."""

    def __init__(self, box: "Box", now: int) -> None:
        self._box = box
        self._now = now
        self.undone: list[list[object]] = []
        self.answered = memoryview(b"")

    def decide(self, _generation: int, item: list[object], owner: Any) -> int:  # noqa: ANN401
        reply: Any = self._box.shard.answer([0, 1, self._now, [item]])
        owner.reply(0, reply[0], reply[1][0])
        return 0

    def undo(self, _generation: int, undos: list[list[object]]) -> None:
        self._box.shard.answer([1, 1, self._now, undos])
        self.undone += undos


def serve(
    box: "Box", break_it: Callable[[Any], None] | None, times: int, now: int
) -> tuple[list[bytes], Tally, Shard]:
    async def run() -> tuple[list[bytes], Tally, Shard]:
        tally, shard, client = Tally(), Shard(box, now), Client()
        log = RateLimitedLog(logging.getLogger("test"))
        writer = RecordWriter(-1, lambda _seconds, _call: None)
        recorder = Recorder(writer, log, tally, everything=False)
        links: list[Link] = [shard]  # type: ignore[list-item]  # has the two methods that are used
        app = App(links, tally, recorder, lambda _callback: None, "decision_service")
        app.engine = box.engine
        if break_it is not None:
            break_it(app.engine)
        connection: HttpConnection = client  # type: ignore[assignment]  # as above
        for _ in range(times):
            app.handle(connection, REQUEST)
        return client.answers, tally, shard

    return asyncio.run(run())


def broken(*_: object) -> None:
    raise ZeroDivisionError("canary")


@pytest.mark.parametrize("method", ["begin", "finish"])
def test_an_error_is_one_answer_503_and_one_count(
    play: "Play", method: str, caplog: pytest.LogCaptureFixture
) -> None:
    box = play.box({"policies": [play.policy(play.rule("ip:address"))]})

    def break_it(engine: Any) -> None:  # noqa: ANN401
        setattr(engine, method, broken)

    answers, tally, shard = serve(box, break_it, 3, play.now)
    assert len(answers) == 3
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"X-Fairvisor-Reason: service_unavailable\r\n" in answer
        assert b"Retry-After: 1\r\n" in answer
    snapshot: Any = tally.snapshot(0)
    assert ["evaluate_errors_total", ("ZeroDivisionError",), 3] in snapshot[0]
    labels = ("reject", "service_unavailable", "none", "none")
    assert ["decisions_total", labels, 3] in snapshot[0]
    assert len(caplog.messages) == 1
    assert "canary" not in caplog.text
    # Whatever had been charged until then has been taken back.
    assert len(shard.undone) == (3 if method == "finish" else 0)


def test_the_front_goes_on_with_full_counters(play: "Play") -> None:
    box = play.box({"policies": [play.policy(play.rule("ip:address"))]})
    finish = box.engine.finish

    def break_it(engine: Any) -> None:  # noqa: ANN401
        engine.finish = broken

    serve(box, break_it, 5, play.now)
    box.engine.finish = finish  # type: ignore[method-assign]  # mended
    answers, _, _ = serve(box, None, 3, play.now)
    assert [answer[9:12] for answer in answers] == [b"200", b"200", b"429"]
