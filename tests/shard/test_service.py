import pytest

from protocol.frames import DECIDE, SETTLE, UNDO, FrameError
from protocol.operations import RuleSpec
from protocol.usage import Usage
from shard.service import MAX_SKEW, ShardService

S = 1_000_000
T0 = 1_700_000_000 * S
RID = b"r" * 16


def bucket(burst: int = 5, identity: str = "bucket") -> RuleSpec:
    params = {"rate_num": 1, "rate_den": 1, "burst": burst * S}
    return RuleSpec("token_bucket", identity, 0, shadow=False, params=dict(params))


LLM = RuleSpec("token_bucket_llm", "llm", 0, shadow=False,
               params={"tpm": 60 * S, "burst": 60 * S, "tpd": None})  # fmt: skip


def service(*, recovered: bool = False) -> ShardService:
    made = ShardService(1 << 20, 3600 * S, recovered=recovered)
    made.install(1, [bucket(), LLM])
    return made


def decide(shard: ShardService, *items: list[object], now: int = T0, generation: int = 1) -> object:
    return shard.answer([DECIDE, generation, now, list(items)])


def test_items_are_answered_in_order() -> None:
    shard = service()
    assert decide(shard, [0, "a", S], [0, "a", S], [0, "b", S]) == [T0, [4, 3, 4]]
    assert shard.answer([UNDO, 1, T0, [[0, "a", S, T0, None, b""]]]) is None
    assert decide(shard, [0, "a", S]) == [T0, [3]]


def test_settlements_are_answered_one_by_one() -> None:
    shard = service()
    decide(shard, [RID, 1, "a", 9])
    assert shard.figures(T0)["reservations"] == 1
    usage = Usage(total=4).to_wire()
    reply = shard.answer([SETTLE, T0, [[RID, usage], [RID, usage], [b"x" * 16, None]]])
    assert reply is not None
    now, (settled, again, unknown) = reply  # type: ignore[misc]
    assert now == T0
    assert settled[0][-2:] == [9, 4]
    assert (again, unknown) == (None, None)


@pytest.mark.parametrize(
    ("stamps", "nows"),
    [
        ([0, 5, 5], [0, 5, 5]),
        ([10, 5, 11], [10, 10, 11]),  # a front a little behind is lifted
        ([MAX_SKEW, 0, 1], [MAX_SKEW, MAX_SKEW, MAX_SKEW]),
        ([MAX_SKEW + 1, 0, 1], [MAX_SKEW + 1, 0, 1]),  # the clock was set back
    ],
)
def test_time_comes_with_the_frames(stamps: list[int], nows: list[int]) -> None:
    shard = service()
    assert [
        reply[0]
        for stamp in stamps
        if (reply := shard.answer([DECIDE, 1, T0 + stamp, [[0, "k", 0]]])) is not None
    ] == [T0 + now for now in nows]


def test_two_generations_serve_and_a_third_ends_the_first() -> None:
    shard = service()
    decide(shard, [0, "a", S])
    shard.install(2, [bucket(9)])
    assert decide(shard, [0, "a", S]) == [T0, [3]]
    assert decide(shard, [0, "a", S], [0, "b", S], generation=2) == [T0, [2, 8]]
    shard.install(3, [bucket(9)])
    assert decide(shard, [0, "a", S], generation=3) == [T0, [1]]
    with pytest.raises(FrameError, match="unknown generation 1"):
        decide(shard, [0, "a", S])
    # what came too late costs nobody a link
    assert shard.answer([UNDO, 1, T0, [[0, "a", S, T0, None, b""]]]) is None
    assert decide(shard, [0, "a", S], generation=3) == [T0, [0]]


def test_a_new_life_does_not_undo_the_charges_of_the_one_before() -> None:
    shard = service()
    decide(shard, [0, "a", 3 * S], now=T0)
    undo: list[object] = [UNDO, 1, T0, [[0, "a", S, T0 - 1, None, b""]]]
    shard.answer(undo)
    assert decide(shard, [0, "a", 0]) == [T0, [2]]
    restored = service(recovered=True)
    decide(restored, [0, "a", 3 * S], now=T0)
    restored.answer(undo)
    assert decide(restored, [0, "a", 0]) == [T0, [3]]


def test_a_clock_set_back_does_not_cost_an_undo() -> None:
    shard = service()
    decide(shard, [0, "a", S])
    early = T0 - 3600 * S
    decide(shard, [0, "a", S], now=early)
    shard.answer([UNDO, 1, early, [[0, "a", S, early, None, b""]]])
    assert decide(shard, [0, "a", 0], now=early) == [early, [4]]


@pytest.mark.parametrize(
    "message",
    [
        [],
        [7],
        ["decide", 1, T0, []],
        [DECIDE],
        [DECIDE, 1, T0],
        [DECIDE, 1, "now", []],
        [DECIDE, 1, T0, {}],
        [DECIDE, 9, T0, []],
        [DECIDE, 1, T0, [7]],
        [DECIDE, 1, T0, [[0, "k"]]],
        [DECIDE, 1, T0, [[99, "k", 1]]],
        [DECIDE, 1, T0, [["0", "k", 1]]],
        [DECIDE, 1, T0, [[0, [], 1]]],
        [DECIDE, 1, T0, [[0, "k", "1"]]],
        [DECIDE, 1, T0, [[RID, 1, "k", None]]],
        [UNDO, 1, T0, [7]],
        [UNDO, 1, T0, [[0, "k", 1, T0]]],
        [UNDO, 1, T0, [[0, "k", 1, "then", None, b""]]],
        [SETTLE, T0, [[RID]]],
        [SETTLE, T0, [[[], None]]],
        [SETTLE, T0, [[RID, 7]]],
        [SETTLE, T0, [[RID, [1] * 99]]],
    ],
)
def test_anything_else_is_a_frame_error(message: list[object]) -> None:
    shard = service()
    decide(shard, [0, "k", S])
    decide(shard, [RID, 1, "a", 9])
    with pytest.raises(FrameError):
        shard.answer(message)
    assert decide(shard, [0, "k", S]) == [T0, [3]]


def test_tidying_drops_what_time_has_ended() -> None:
    shard = service()
    decide(shard, [0, "k", S], [RID, 1, "a", 9])
    held = {
        "counters": 2,
        "evicted": 0,
        "reservations": 1,
        "expired": 0,
        "dropped": 0,
        "breakers": [],
    }
    assert shard.figures(T0) == held
    shard.tidy(T0 + 3600 * S, 100)
    assert shard.figures(T0) == held | {"counters": 0, "reservations": 0, "expired": 1}
