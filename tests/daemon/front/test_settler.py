"""Settlements against shards that answer, are silent, come late, or never come back."""

from collections.abc import Callable
from typing import Any, cast

from daemon.engine.settlement import reservation_text
from daemon.front.links import Link
from daemon.front.settler import MAX_TRIES, Settled, Settler
from protocol.usage import UNKNOWN, Usage

USAGE = Usage(3, 4, 7)
ENTRY = [0, "rule", 100, 7]
RESERVATION = reservation_text(b"r" * 16, [0, 1])


class FakeLink:
    """Keeps who asked it what."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, Any]] = []

    def settle(self, _reservation: bytes, usage: object, owner: Any) -> None:  # noqa: ANN401
        self.asked.append((usage, owner))


class Stage:
    """A settler over two shards, whose timers the test fires."""

    def __init__(self) -> None:
        self.links = [FakeLink(), FakeLink()]
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.ended: list[Settled] = []
        links = cast("list[Link]", self.links)
        self.settler = Settler(links, self._later, self.ended.append)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self.timers.append((seconds, call))

    def owner(self, shard: int) -> Any:  # noqa: ANN401
        return self.links[shard].asked[-1][1]

    def fire(self) -> float:
        seconds, call = self.timers.pop(0)
        call()
        return seconds


def test_it_ends_when_every_shard_has_answered() -> None:
    stage = Stage()
    stage.settler.settle(RESERVATION, USAGE)
    assert [link.asked[0][0] for link in stage.links] == [USAGE.to_wire()] * 2
    stage.owner(0).reply(0, 1, [ENTRY])
    assert stage.ended == []
    stage.owner(1).reply(1, 1, None)
    assert stage.ended == [Settled("used", [ENTRY], USAGE)]
    assert (stage.settler.open, stage.timers) == (0, [])


def test_a_silent_shard_alone_is_asked_again_until_it_answers() -> None:
    stage = Stage()
    stage.settler.settle(RESERVATION, None)
    stage.owner(0).reply(0, 1, [ENTRY])
    stage.owner(1).unavailable(1)
    waits = [stage.fire()]
    stage.owner(1).unavailable(1)
    waits.append(stage.fire())
    assert waits[0] < waits[1]
    assert (len(stage.links[0].asked), len(stage.links[1].asked)) == (1, 3)
    stage.owner(1).reply(1, 1, [ENTRY])
    assert stage.ended == [Settled("returned", [ENTRY, ENTRY], None)]


def test_a_late_answer_counts_once() -> None:
    stage = Stage()
    stage.settler.settle(RESERVATION, USAGE)
    stage.owner(0).reply(0, 1, None)
    stage.owner(1).unavailable(1)
    stage.owner(1).late(1, 1, [ENTRY])
    assert stage.ended == [Settled("used", [ENTRY], USAGE)]
    stage.fire()
    assert len(stage.links[1].asked) == 1
    assert (stage.settler.retrying, stage.settler.open) == (0, 0)


def test_what_nobody_holds_is_unknown() -> None:
    stage = Stage()
    stage.settler.settle(RESERVATION, USAGE)
    for shard in (0, 1):
        stage.owner(shard).reply(shard, 1, None)
    assert [each.outcome for each in stage.ended] == ["unknown"]


def test_an_unknown_usage_keeps_the_estimate_and_says_why() -> None:
    stage = Stage()
    stage.settler.settle(RESERVATION, None, "usage_not_found")
    assert stage.links[0].asked[0][0] == UNKNOWN.to_wire()
    for shard in (0, 1):
        stage.owner(shard).reply(shard, 1, [ENTRY])
    assert stage.ended == [Settled("kept", [ENTRY, ENTRY], None, "usage_not_found")]


def test_it_gives_up_in_the_end_and_says_so_once() -> None:
    stage = Stage()
    stage.settler.settle(RESERVATION, USAGE)
    for _ in range(MAX_TRIES - 1):
        for shard in (0, 1):
            stage.owner(shard).unavailable(shard)
        stage.fire()
    for shard in (0, 1):
        stage.owner(shard).unavailable(shard)
    assert [each.outcome for each in stage.ended] == ["lost"]
    stage.owner(0).late(0, 1, [ENTRY])
    assert len(stage.ended) == 1
    assert (stage.settler.open, stage.settler.retrying, stage.timers) == (0, 0, [])
