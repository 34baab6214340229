"""A shard's changes, batch by batch into a log, give back the very states it holds (§13.5)."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.frames import DECIDE, SETTLE, UNDO
from protocol.operations import RuleSpec
from protocol.usage import Usage
from shard.changes import Changes
from shard.service import ShardService
from shard.stores.batches import MARK_BEGIN, MARK_END, MARK_NONE, BatchWriter
from shard.stores.image import _WIDTHS, Image, Kept
from shard.stores.records import Records, encode

S = 1_000_000
T0 = 1_700_000_000 * S
LIMITS: list[tuple[Any, dict[str, Any]]] = [
    ("token_bucket", {"rate_num": 1, "rate_den": 1000, "burst": 50 * S}),
    ("sliding_window", {"limit": 50 * S, "window_seconds": 60}),
    ("cost_based", {"budget": 50 * S, "period": "1d", "timezone": "UTC", "settle": "tokens"}),
    ("token_bucket_llm", {"tpm": 6000 * S, "burst": 9000 * S, "tpd": 10**5 * S}),
    ("loop", {"window_seconds": 60, "threshold": 500, "reject": True}),
    ("breaker", {"threshold": 300 * S, "auto_reset": 0}),
    ("refuse", {}),
]
SPECS = [RuleSpec(kind, kind, 0, shadow=False, params=params) for kind, params in LIMITS]
LOOP = 4


class Logged:
    """A shard service with a log in memory."""

    def __init__(self) -> None:
        self.service = ShardService(1 << 24, 3600 * S)
        self.service.install(1, SPECS)
        self.changes = Changes()
        self.service.keep(self.changes)
        self.writer = BatchWriter()
        self.records: list[bytes] = []

    def commit(self, mark: int = MARK_NONE) -> None:
        held = self.service.reservations.held
        body = self.writer.body(self.changes, held, self.service.now, [], mark)
        self.changes.clear()
        self.records.append(encode(body))

    def image(self, records: list[bytes] | None = None) -> Image:
        image = Image()
        image.add(Records(b"".join(self.records if records is None else records)))
        return image

    def states(self) -> dict[tuple[str, object], tuple[int, ...]]:
        return {
            (table.identity, key): tuple(state)
            for table in self.service.tables
            for key, state in table.states.items()
            if state is not None
        }


def restored(image: Image) -> dict[tuple[str, object], tuple[int, ...]]:
    found = {
        (identity, key): image.state(identity, key, None)
        for identity, counters in image.counters.items()
        for key in counters
    }
    return {name: state for name, state in found.items() if state is not None}


KEYS = st.sampled_from(["a", "b", b"digest-of-20-bytes--", "\ud800"])
OPERATIONS = st.lists(
    st.tuples(st.integers(0, len(SPECS) - 1), KEYS, st.sampled_from([0, 1, S, 9 * S])),
    min_size=1,
    max_size=4,
    unique_by=lambda each: (each[0], each[1]),
)
FRAMES = st.lists(
    st.tuples(
        st.sampled_from(["decide", "reserve", "undo", "settle", "loops"]),
        OPERATIONS,
        st.integers(0, 40 * S),
    ),
    max_size=30,
)


def play(logged: Logged, frames: list[Any]) -> None:
    now = T0
    rids: list[bytes] = []
    for what, operations, passes in frames:
        now += passes
        item: list[object] = [part for operation in operations for part in operation]
        match what:
            case "decide":
                logged.service.answer([DECIDE, 1, now, [item, item]])
            case "reserve":
                rids.append(len(rids).to_bytes(16, "big"))
                logged.service.answer([DECIDE, 1, now, [[rids[-1], *item]]])
            case "loops":
                logged.service.answer([DECIDE, 1, now, [[LOOP, "a", 0]] * 12])
            case "undo":
                undos = [[number, key, cost, now, 1, b""] for number, key, cost in operations]
                logged.service.answer([UNDO, 1, now, undos])
            case "settle" if rids:
                logged.service.answer([SETTLE, now, [[rids.pop(), Usage(total=3).to_wire()]]])
        logged.commit()


@given(FRAMES)
def test_the_log_gives_the_states_back(frames: list[Any]) -> None:
    logged = Logged()
    play(logged, frames)
    image = logged.image()
    assert restored(image) == logged.states()
    held = {
        rid: Kept(
            each.charged_at, tuple((table.identity, key, cost) for table, key, cost in each.entries)
        )
        for rid, each in logged.service.reservations.held.items()
    }
    assert {rid: kept for rid, kept in image.reservations.items() if kept is not None} == held


@given(FRAMES, st.integers(0, 30))
def test_two_stretches_are_as_good_as_one(frames: list[Any], cut: int) -> None:
    """The keeper folds some of the log first, and what follows on top of that."""
    logged = Logged()
    play(logged, frames[:cut])
    first = restored(logged.image())
    logged.records.clear()
    logged.writer = BatchWriter()  # segments define their own slots
    play(logged, frames[cut:])
    second = logged.image()
    names = set(first) | {(each, key) for each, keys in second.counters.items() for key in keys}
    states = {
        name: second.state(*name, first.get(name))  # type: ignore[arg-type]  # identity and key
        for name in names
    }
    assert {name: state for name, state in states.items() if state is not None} == logged.states()


def test_a_hit_of_a_long_history_costs_a_few_bytes() -> None:
    logged = Logged()
    for number in range(400):
        logged.service.answer([DECIDE, 1, T0 + number, [[LOOP, "k", 0]]])
        logged.commit()
    assert len(logged.records[-1]) < 80
    assert restored(logged.image()) == logged.states()


def test_a_snapshot_is_all_there_is() -> None:
    logged = Logged()
    logged.service.answer([DECIDE, 1, T0, [[0, "a", S], [0, "b", S]]])
    logged.commit()
    logged.service.store.changes = None
    logged.commit(MARK_BEGIN)
    logged.changes.note((logged.service.tables[0].counters, "b"))
    logged.commit()
    unfinished = logged.image()
    assert {key for _, key in restored(unfinished)} == {"a", "b"}
    assert not unfinished.complete
    logged.commit(MARK_END)
    image = logged.image()
    assert {key for _, key in restored(image)} == {"b"}
    assert image.complete
    assert image.state("token_bucket", "a", (1, 2)) is None


def test_a_rule_that_came_back_starts_anew() -> None:
    logged = Logged()
    logged.service.answer([DECIDE, 1, T0, [[0, "a", S]]])
    logged.commit()
    logged.service.install(2, SPECS[1:], 1)
    logged.service.install(3, SPECS[1:], 2)
    logged.service.install(4, SPECS, 3)
    logged.commit()
    image = logged.image()
    assert image.forgotten >= {"token_bucket"}
    assert image.state("token_bucket", "a", (1, 2)) is None
    logged.service.answer([DECIDE, 4, T0, [[0, "a", 2 * S]]])
    logged.commit()
    assert restored(logged.image()) == logged.states()


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.kind in _WIDTHS])
def test_widths_are_those_of_the_limiters(spec: RuleSpec) -> None:
    logged = Logged()
    logged.service.answer([DECIDE, 1, T0, [[SPECS.index(spec), "k", 1]]])
    (state,) = logged.states().values()
    assert len(state) == _WIDTHS[spec.kind]
    assert not math.isnan(sum(state))


@pytest.mark.parametrize(
    "body",
    [
        [0, 0, [], [], [7, "k", [1, 2]], [], []],  # a slot that nothing defines
        [0, 0, [[0, "nonsense", "x", {}]], [], [], [], []],
        [0, 0, [[0, "token_bucket", "x", {}]], [], [], [], []],  # no parameters
        [0, 0, [], [], [0, "k"], [], []],
        ["now", 0, [], [], [], [], []],
        [0],
    ],
)
def test_what_no_shard_writes_is_refused(body: list[object]) -> None:
    with pytest.raises(ValueError, match="makes no sense"):
        Image().add([body])
