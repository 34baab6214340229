"""Breakers listed and reset by hand (§5.8, §17), also with a request in flight."""

from collections.abc import Generator
from typing import Any

import pytest

from protocol.frames import DECIDE, UNDO
from protocol.operations import Key, RuleSpec
from shard import breakers
from shard.service import ShardService

S = 1_000_000
MINUTE = 60 * S
T0 = 1_700_000_040 * S
CHAT, DOCS, SHADOW = "enforce:4:chat:breaker", "enforce:4:docs:breaker", "shadow:4:chat:breaker"


def breaker(identity: str, *, segment: int = 0, reset: int = 0) -> RuleSpec:
    params: dict[str, int | str | bool | None] = {"threshold": 10 * S, "auto_reset": reset * MINUTE}
    shadow = identity.startswith("shadow")
    return RuleSpec("breaker", identity, segment, shadow=shadow, params=params)


BUCKET = RuleSpec("token_bucket", "bucket", 1, shadow=False,
                  params={"rate_num": 1, "rate_den": 1, "burst": S})  # fmt: skip


@pytest.fixture(name="shard")
def _shard() -> ShardService:
    made = ShardService(1 << 30, 3600 * S)
    specs = [breaker(CHAT), BUCKET, breaker(DOCS, segment=2, reset=5), breaker(SHADOW, segment=3)]
    made.install(1, specs)
    return made


def decide(shard: ShardService, *item: object, now: int = T0) -> Any:  # noqa: ANN401 - a reply
    reply = shard.answer([DECIDE, 1, now, [list(item)]])
    assert reply is not None
    return reply[1][0]  # type: ignore[index]


def finished(reset: Generator[None, None, int]) -> int:
    while True:
        try:
            next(reset)
        except StopIteration as end:
            return int(end.value)


def reset(shard: ShardService, *identities: str, keys: list[Key] | None = None) -> int:
    return finished(shard.reset_breakers(identities, keys, T0))


def opened(shard: ShardService, now: int = T0) -> set[tuple[str, Key]]:
    rows, more = shard.open_breakers(now)
    assert not more
    return {(identity, key) for identity, key, _, _ in rows}


def test_open_ones_are_listed_with_their_times(shard: ShardService) -> None:
    decide(shard, 0, "a", 9 * S)
    assert shard.open_breakers(T0) == ([], False)
    decide(shard, 0, "a", 9 * S, now=T0 + 1)
    decide(shard, 2, "b", 10 * S, 1, "b", S, now=T0 + 2)
    rows, more = shard.open_breakers(T0 + 3)
    assert rows == [(CHAT, "a", T0 + 1, None), (DOCS, "b", T0 + 2, T0 + 2 + 5 * MINUTE)]
    assert not more
    assert shard.figures(T0 + 3)["breakers"] == [CHAT, DOCS]


def test_one_that_reset_itself_is_not(shard: ShardService) -> None:
    decide(shard, 2, "b", 10 * S)
    assert opened(shard, T0 + 5 * MINUTE - 1) == {(DOCS, "b")}
    assert opened(shard, T0 + 5 * MINUTE) == set()
    assert shard.figures(T0 + 5 * MINUTE)["breakers"] == []


def test_one_that_is_retracted_is_not(shard: ShardService) -> None:
    verdict = decide(shard, 0, "a", 10 * S)
    shard.answer([UNDO, 1, T0, [[0, "a", 10 * S, T0, verdict, b""]]])
    assert opened(shard) == set()


def test_a_key_or_all_of_a_policy(shard: ShardService) -> None:
    for key in ("a", "b", b"digest"):
        decide(shard, 0, key, 10 * S)
        decide(shard, 2, key, 10 * S)
        decide(shard, 3, key, 10 * S)
    assert reset(shard, CHAT, SHADOW, keys=["a"]) == 2
    assert reset(shard, CHAT, SHADOW, keys=["a"]) == 0
    assert reset(shard, CHAT, keys=["nobody"]) == 0
    assert opened(shard) == {
        (DOCS, "a"), (DOCS, "b"), (DOCS, b"digest"), (CHAT, "b"), (CHAT, b"digest"),
        (SHADOW, "b"), (SHADOW, b"digest"),
    }  # fmt: skip
    assert reset(shard, CHAT, SHADOW) == 4
    assert opened(shard) == {(DOCS, "a"), (DOCS, "b"), (DOCS, b"digest")}
    assert reset(shard, "enforce:4:gone:breaker") == 0
    assert reset(shard, DOCS, CHAT) == 3
    assert decide(shard, 0, "a", S) == S


def test_the_rate_of_a_closed_one_is_cleared_and_not_counted(shard: ShardService) -> None:
    decide(shard, 0, "a", 9 * S)
    assert reset(shard, CHAT) == 0
    assert decide(shard, 0, "a", 9 * S) == 9 * S


def test_a_request_in_flight_gives_nothing_back_that_others_charged(shard: ShardService) -> None:
    decide(shard, 0, "a", 6 * S)
    reset(shard, CHAT)
    # the very same microsecond, by the front's clock
    assert decide(shard, 0, "a", 7 * S) == 7 * S
    shard.answer([UNDO, 1, T0, [[0, "a", 6 * S, T0, None, b""]]])
    assert decide(shard, 0, "a", 2 * S) == 9 * S


def test_a_request_that_opened_it_before_a_reset_closes_nothing_after_it(
    shard: ShardService,
) -> None:
    verdict = decide(shard, 0, "a", 10 * S)
    reset(shard, CHAT)
    decide(shard, 0, "a", 10 * S)
    shard.answer([UNDO, 1, T0, [[0, "a", 10 * S, T0, verdict, b""]]])
    assert opened(shard) == {(CHAT, "a")}


def test_a_reset_before_anything_else_knows_the_time(shard: ShardService) -> None:
    (table,) = [each for each in shard.tables if each.identity == CHAT]
    table.add("a", (T0, 0, 6 * S, -1, 0), T0)  # restored, and its request still in flight
    assert reset(shard, CHAT) == 0
    decide(shard, 0, "a", 7 * S)
    shard.answer([UNDO, 1, T0, [[0, "a", 6 * S, T0, None, b""]]])
    assert decide(shard, 0, "a", 2 * S) == 9 * S


def test_other_counters_stay(shard: ShardService) -> None:
    decide(shard, 1, "a", S)
    reset(shard, CHAT, "bucket")
    assert decide(shard, 1, "a", S) == -1


def test_many_are_reset_in_steps_with_requests_in_between(shard: ShardService) -> None:
    number = 3 * breakers.STEP
    for key in range(number):
        decide(shard, 0, str(key), 10 * S)
    steps = shard.reset_breakers([CHAT], None, T0)
    next(steps)
    assert decide(shard, 0, "0", S) == S
    assert decide(shard, 0, str(number - 1), S) == [-60, 0, 0]
    decide(shard, 0, "new", 10 * S)
    assert finished(steps) == number
    assert opened(shard) == {(CHAT, "new")}


def test_a_long_list_is_cut(shard: ShardService) -> None:
    for key in range(breakers.LISTED + 1):
        decide(shard, 0, str(key), 10 * S)
    rows, more = shard.open_breakers(T0)
    assert (len(rows), more) == (breakers.LISTED, True)


def test_what_is_dropped_from_memory_is_not_open_any_more(shard: ShardService) -> None:
    decide(shard, 0, "a", 10 * S)
    shard.install(2, [BUCKET])
    shard.install(3, [BUCKET])
    shard.tidy(T0, 100)
    assert shard.open_breakers(T0) == ([], False)
    assert shard.figures(T0)["counters"] == 0


def test_a_reload_keeps_it_open_with_its_new_reset(shard: ShardService) -> None:
    decide(shard, 0, "a", 10 * S)
    shard.install(2, [breaker(CHAT, reset=1)])
    assert shard.open_breakers(T0) == ([(CHAT, "a", T0, T0 + MINUTE)], False)
