"""All or none on one shard (§5.2), table by table."""

from typing import Any

import pytest

from protocol.operations import RuleSpec
from protocol.usage import Usage
from shard.counters import CounterStore
from shard.reservations import Reservations
from shard.tables import CounterTable
from shard.transaction import Entry, Transactions, charges

S = 1_000_000
T0 = 1_700_000_000 * S
RID = b"r" * 16
BUCKET = {"rate_num": 1, "rate_den": 1, "burst": 5 * S}
BUDGET: dict[str, Any] = {"budget": 9 * S, "period": "1d", "timezone": "UTC", "settle": ""}
LLM: dict[str, Any] = {"tpm": 60 * S, "burst": 60 * S, "tpd": None}
LOOP: dict[str, Any] = {"window_seconds": 60, "threshold": 3, "reject": True}
BREAKER: dict[str, Any] = {"threshold": 10 * S, "auto_reset": 0}
# number: kind, parameters, segment, shadow
RULES: list[tuple[Any, dict[str, Any], int, bool]] = [
    ("token_bucket", BUCKET, 0, False),
    ("cost_based", BUDGET, 0, False),
    ("refuse", {}, 0, False),
    ("token_bucket", BUCKET, 1, True),
    ("cost_based", BUDGET, 1, True),
    ("refuse", {}, 1, True),
    ("loop", LOOP, 2, False),
    ("breaker", BREAKER, 2, False),
    ("token_bucket_llm", LLM, 2, False),
    ("cost_based", BUDGET | {"settle": "tokens"}, 2, False),
    ("cost_based", BUDGET | {"settle": "usd"}, 2, False),
]


class Shard:
    def __init__(self) -> None:
        specs = [
            RuleSpec(kind, str(number), segment, shadow, params)
            for number, (kind, params, segment, shadow) in enumerate(RULES)
        ]
        self.tables: list[CounterTable] = CounterStore(1 << 20).install(1, specs)
        self.reservations: Reservations[Entry] = Reservations(3600 * S)
        self.transactions = Transactions(self.reservations)

    def decide(self, *operations: object, now: int = T0) -> object:
        return self.transactions.decide(self.tables, list(operations), now)

    def undo(self, *undos: list[object], now: int = T0) -> None:
        self.transactions.undo(self.tables, list(undos), now)

    def settle(self, usage: Usage | None, now: int = T0) -> list[list[Any]] | None:
        return self.transactions.settle(RID, usage, now)

    def left(self, number: int, key: str = "k") -> object:
        """What a charge of nothing would leave."""
        table = self.tables[number]
        return table.charge(table.states.get(key), 0, T0)[1]


@pytest.mark.parametrize(
    ("operations", "reply", "left"),
    [
        # one operation answers bare, several with a list
        ([0, "k", S], 4, {0: 4}),
        ([0, "k", 6 * S], -1, {0: 5}),
        ([0, "k", S, 1, "k", S], [4, 8 * S], {0: 4, 1: 8 * S}),
        # the last refuses: nothing is charged, and nothing after it is asked
        ([0, "k", S, 1, "k", 10 * S], [4, -6400], {0: 5, 1: 9 * S}),
        ([0, "k", 6 * S, 1, "k", S], [-1, None], {0: 5, 1: 9 * S}),
        ([0, "k", S, 2, "", 0, 1, "k", S], [4, -1, None], {0: 5, 1: 9 * S}),
        # one key twice is put back to what it was first
        ([0, "k", S, 0, "k", S, 2, "", 0], [4, 3, -1], {0: 5}),
        # a shadow refusal takes back its own segment, and skips what is left of it
        ([0, "k", S, 3, "k", S, 4, "k", 10 * S], [4, 4, -6400], {0: 4, 3: 5, 4: 9 * S}),
        ([3, "k", 6 * S, 4, "k", S, 0, "k", S], [-1, None, 4], {0: 4, 3: 5, 4: 9 * S}),
        ([3, "k", S, 5, "", 0, 4, "k", S, 0, "k", S], [4, -1, None, 4], {0: 4, 3: 5, 4: 9 * S}),
        # an enforcing one takes back everything, the shadow's too
        ([3, "k", S, 0, "k", S, 2, "", 0], [4, 4, -1], {0: 5, 3: 5}),
    ],
)
def test_all_or_none(operations: list[object], reply: object, left: dict[int, object]) -> None:
    shard = Shard()
    assert shard.decide(*operations) == reply
    assert {number: shard.left(number) for number in left} == left


def test_loop_counts_and_open_breakers_stay() -> None:
    shard = Shard()
    reply = shard.decide(6, "f", 0, 8, "k", 9, 7, "k", 10 * S, 0, "k", S)
    assert reply == [1, [51, None], [-60, 1, 10 * S], None]
    assert shard.left(8) == [60, None]
    assert shard.tables[7].states["k"] == (T0 - T0 % (60 * S), 0, 0, T0, 0)
    assert shard.decide(6, "f", 0, 2, "", 0) == [2, -1]
    assert shard.decide(6, "f", 0, 0, "k", S) == [[-60, 3], None]


def test_a_refused_request_leaves_a_fresh_counter_fresh() -> None:
    shard = Shard()
    shard.decide(0, "k", S, 2, "", 0)
    assert shard.tables[0].states == {"k": None}


@pytest.mark.parametrize(
    ("usage", "settled", "left"),
    [
        (Usage(1, 2, 3), [[8, 9, 3], [9, 2 * S, 3 * S]], [[57, None], 6 * S]),
        (Usage(total=9), [[8, 9, 9], [9, 2 * S, 9 * S]], [[51, None], 0]),
        (None, [[8, 9, 0], [9, 2 * S, 0]], [[60, None], 9 * S]),
    ],
)
def test_settlement(usage: Usage | None, settled: list[object], left: list[object]) -> None:
    shard = Shard()
    assert shard.decide(RID, 8, "k", 9, 9, "k", 2 * S, 0, "k", S) == [[51, None], 7 * S, 4]
    entries = shard.settle(usage)
    assert entries is not None
    assert [[entry[0], *entry[-2:]] for entry in entries] == settled
    assert [shard.left(8), shard.left(9)] == left
    assert shard.settle(usage) is None
    assert [shard.left(8), shard.left(9)] == left


def test_dollars_are_reconciled_by_the_rates_that_came_along() -> None:
    shard = Shard()
    rates = [1, [[-1, [2, 3, 2, 2, 2, 2, 2, 3, 3, 3]]]]
    assert shard.decide(RID, 10, "k", [S, rates]) == 8 * S
    entries = shard.settle(Usage(10, 10, 20))
    assert entries is not None
    assert entries[0][-2:] == [S, 50]
    assert shard.left(10) == 9 * S - 50


@pytest.mark.parametrize("usage", [Usage(total=20)])
def test_dollars_of_a_bare_total_stay_estimated(usage: Usage) -> None:
    shard = Shard()
    shard.decide(RID, 10, "k", [S, [1, [[-1, [2] * 10]]]])
    entries = shard.settle(usage)
    assert entries is not None
    assert entries[0][-2:] == [S, S]
    assert shard.left(10) == 8 * S


@pytest.mark.parametrize(
    "operations",
    [
        [RID, 10, "k", S],  # an unknown model's default cost is final
        [RID, 0, "k", S],  # nothing here is an estimate
        [RID, 8, "k", 9, 2, "", 0],  # refused
        [RID, 8, "k", 99],
    ],
)
def test_nothing_is_held_that_could_not_be_settled(operations: list[object]) -> None:
    shard = Shard()
    shard.decide(*operations)
    assert len(shard.reservations) == 0
    assert shard.settle(None) is None


def test_undo_gives_back_and_forgets_the_reservation() -> None:
    shard = Shard()
    shard.decide(RID, 8, "k", 9, 9, "k", S, 0, "k", S)
    shard.undo([0, "k", S, T0, None, b""], [8, "k", 9, T0, None, RID])
    assert (shard.left(0), shard.left(8), shard.left(9)) == (5, [60, None], 8 * S)
    entries = shard.settle(None)
    assert entries is not None
    assert [entry[0] for entry in entries] == [9]


def test_an_undo_that_settlement_has_overtaken_gives_nothing_back_twice() -> None:
    shard = Shard()
    shard.decide(RID, 8, "k", 9, 0, "k", S)
    shard.settle(Usage(total=4))
    shard.undo([8, "k", 9, T0, None, RID])
    assert shard.left(8) == [56, None]


def test_retracting_takes_back_what_should_never_have_been_asked() -> None:
    shard = Shard()
    reply = shard.decide(6, "f", 0, 7, "k", 10 * S)
    assert reply == [1, [-60, 1, 10 * S]]
    shard.undo([6, "f", 0, T0, 1, b""], [7, "k", 10 * S, T0, [-60, 1, 10 * S], b""])
    assert shard.tables[6].states["f"] == ()
    assert shard.decide(7, "k", S) == S
    shard.undo([6, "f", 0, T0, None, b""])
    assert shard.decide(6, "f", 0) == 1


@pytest.mark.parametrize(
    ("operations", "standing"),
    [
        ([0, "k", S], [[0, "k", S]]),
        ([0, "k", 6 * S], []),
        ([0, "k", S, 1, "k", S], [[0, "k", S], [1, "k", S]]),
        ([0, "k", S, 2, "k", 0, 1, "k", S], []),  # an enforcing policy refused
        ([0, "k", S, 3, "k", S, 5, "k", 0, 4, "k", S], [[0, "k", S]]),  # a shadow policy did
        ([6, "k", 0, 7, "k", S], [[7, "k", S]]),  # attempts stay
    ],
)
def test_what_stands_of_a_request(operations: list[Any], standing: list[list[object]]) -> None:
    shard = Shard()
    reply = shard.decide(*operations)
    undos = charges(shard.tables, operations, reply, T0)
    assert undos == [[*each, T0, None, b""] for each in standing]


def test_what_stands_of_a_reservation_carries_its_id() -> None:
    shard = Shard()
    rates = [1, 0, 0, 1, 0, 0, 0, 0]
    item = [RID, 1, "k", S, 9, "k", S, 10, "k", 5, 10, "l", [S, rates]]
    undos = charges(shard.tables, item, shard.decide(*item), T0)
    assert [undo[-1] for undo in undos] == [b"", RID, b"", RID]
    assert undos[-1][2] == S
