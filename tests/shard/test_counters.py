"""Counter tables (§2.7, §13.2): generations, the sweep, and the memory bound."""

from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.operations import Key, Kind, RuleSpec
from shard.counters import CounterStore
from shard.tables import CounterTable

S = 1_000_000
T0 = 1_700_000_000 * S
PLENTY = 1 << 30


def bucket(identity: str, burst: int = 10) -> RuleSpec:
    params = {"rate_num": 1, "rate_den": 1, "burst": burst * S}
    return RuleSpec("token_bucket", identity, 0, shadow=False, params=dict(params))


def breaker(identity: str) -> RuleSpec:
    return RuleSpec("breaker", identity, 0, shadow=False, params={"threshold": S, "auto_reset": 0})


def charge(table: CounterTable, key: Key, cost: int, now: int) -> Any:  # noqa: ANN401 - whatever the limiter says
    """Do as a transaction does."""
    state = table.states.get(key)
    new, verdict = table.charge(state, cost, now)
    if new is state:
        if state is not None:
            table.touch(key)
    elif state is None:
        table.add(key, new, now)
    else:
        table.states[key] = new
    return verdict


def check(store: CounterStore, *tables: CounterTable) -> None:
    """Every counter stands on the ring exactly once, and the figures add up."""
    entries = {(id(owner), key) for owner, key in zip(store._owners, store._keys, strict=True)}
    assert len(entries) == len(store._keys) == store.size
    assert {len(column) for column in (store._marks, store._used, store._weights)} == {store.size}
    for owner, key in zip(store._owners, store._keys, strict=True):
        assert key in owner.states
    assert store.bytes == sum(store._weights)
    for table in tables:
        for key in table.states:
            assert (id(table.counters), key) in entries
        assert table.counters.touched <= set(table.states)
        assert set(table.refusing) <= set(table.states)


def test_tables_know_their_rule() -> None:
    store = CounterStore(PLENTY)
    spec = RuleSpec(
        "loop", "x", 7, shadow=True, params={"window_seconds": 1, "threshold": 2, "reject": True}
    )
    one, two = store.install(1, [bucket("a"), spec])
    assert (one.number, two.number) == (0, 1)
    assert (two.kind, two.identity, two.segment, two.shadow) == ("loop", "x", 7, True)
    assert charge(two, b"k", 0, T0) == 1
    assert charge(two, b"k", 0, T0) == [-1, 2]


def test_equal_rules_keep_their_counters_over_a_reload() -> None:
    store = CounterStore(PLENTY)
    (old,) = store.install(1, [bucket("a")])
    charge(old, "k", 4 * S, T0)
    other, new = store.install(2, [bucket("b"), bucket("a")])
    assert new.number == 1
    assert charge(new, "k", S, T0) == 5
    assert charge(old, "k", S, T0) == 4  # a front that has not switched yet
    assert other.states == {}
    check(store, old, new, other)


def test_changed_parameters_keep_their_counters() -> None:
    store = CounterStore(PLENTY)
    (old,) = store.install(1, [bucket("a")])
    charge(old, "k", 4 * S, T0)
    (new,) = store.install(2, [bucket("a", burst=20)])
    assert charge(new, "k", S, T0) == 5
    assert charge(old, "k", S, T0) == 4  # a front that has not switched yet
    assert charge(new, "other", S, T0) == 19
    assert charge(old, "third", S, T0) == 9
    check(store, old, new)


def test_the_sweep_goes_by_the_newest_parameters() -> None:
    store = CounterStore(PLENTY)
    (old,) = store.install(1, [bucket("a")])
    charge(old, "k", S, T0)
    store.install(2, [bucket("a", burst=20)])
    assert store.sweep(T0 + 2 * S, 10) == 0  # full by the old burst, not by the new
    assert store.sweep(T0 + 11 * S, 10) == 1


def test_a_lowered_burst_takes_what_is_above_it() -> None:
    store = CounterStore(PLENTY)
    (old,) = store.install(1, [bucket("a", burst=20)])
    charge(old, "k", S, T0)
    (new,) = store.install(2, [bucket("a", burst=5)])
    assert charge(new, "k", S, T0) == 4


def test_another_kind_starts_fresh() -> None:
    store = CounterStore(PLENTY)
    (old,) = store.install(1, [bucket("a")])
    charge(old, "k", 4 * S, T0)
    (new,) = store.install(2, [breaker("a")])
    assert new.states == {}
    assert store.sweep(T0, 10) == 1  # the old one's
    check(store, new)


def test_counters_die_with_the_last_generation_that_needs_them() -> None:
    store = CounterStore(PLENTY)
    (table,) = store.install(1, [bucket("a")])
    for key in "abcdef":
        charge(table, key, S, T0)
    store.install(2, [bucket("b")])
    assert store.sweep(T0, 10) == 0
    store.install(3, [bucket("b")])
    assert store.size == 6  # not all at once
    assert store.sweep(T0, 0) + store.sweep(T0, 2) == 2
    assert store.sweep(T0, 10) == 4
    assert (store.size, store.bytes, store.evicted) == (0, 0, 0)
    (again,) = store.install(4, [bucket("a")])
    assert again.states == {}


def test_a_reservation_of_a_dead_rule_does_no_harm() -> None:
    store = CounterStore(PLENTY)
    (table,) = store.install(1, [bucket("a")])
    store.install(2, [])
    store.install(3, [])
    charge(table, "k", S, T0)
    assert store.sweep(T0, 10) == 1
    check(store, table)


def test_rules_of_one_identity_share_one_table() -> None:
    store = CounterStore(PLENTY)
    one, two = store.install(1, [bucket("a"), bucket("a")])
    charge(one, "k", 4 * S, T0)
    assert charge(two, "k", S, T0) == 5


def test_idle_counters_go_and_others_stay() -> None:
    store = CounterStore(PLENTY)
    (table,) = store.install(1, [bucket("a")])
    charge(table, "soon", S, T0)
    charge(table, "later", 9 * S, T0)
    assert store.sweep(T0 + S - 1, 10) == 0
    assert store.sweep(T0 + S, 10) == 1
    assert set(table.states) == {"later"}
    assert (store.expired, store.evicted) == (1, 0)


def test_a_counter_put_back_is_not_entered_twice() -> None:
    store = CounterStore(PLENTY)
    (table,) = store.install(1, [bucket("a")])
    for _ in range(5):
        charge(table, "k", S, T0)
        table.states["k"] = None
    charge(table, "k", S, T0)
    check(store, table)
    table.states["k"] = None
    assert store.sweep(T0, 10) == 1
    check(store, table)


def test_a_sweep_looks_at_no_more_than_its_budget() -> None:
    store = CounterStore(PLENTY)
    (table,) = store.install(1, [bucket("a")])
    for key in range(100):
        charge(table, str(key), S, T0)
    store.sweep(T0, 0)
    assert store.sweep(T0 + 60 * S, 7) == 7
    assert store.sweep(T0 + 60 * S, 1000) == 93


def full_store(count: int) -> tuple[CounterStore, CounterTable]:
    """Return a store whose bound is what `count` counters weigh."""
    store = CounterStore(PLENTY)
    (table,) = store.install(1, [bucket("a")])
    charge(table, b"%06d" % 0, 5 * S, T0)
    store.max_bytes = store.bytes * count
    for number in range(1, count):
        charge(table, b"%06d" % number, 5 * S, T0)
    assert store.bytes == store.max_bytes
    return store, table


def test_idle_ones_go_before_any_other() -> None:
    store, table = full_store(20)
    for number in range(6):
        table.states[b"%06d" % number] = (10 * S, T0)  # full again
    for number in range(20, 26):
        charge(table, b"%06d" % number, 5 * S, T0)
    store.sweep(T0, 0)
    assert set(table.states) == {b"%06d" % number for number in range(6, 26)}
    assert store.evicted == 0


def test_idle_ones_further_on_go_before_those_at_hand() -> None:
    store, table = full_store(200)
    for number in range(0, 200, 20):
        table.states[b"%06d" % number] = (10 * S, T0)  # full again, a few in every stretch
    for number in range(200, 210):
        charge(table, b"%06d" % number, 5 * S, T0)
    store.sweep(T0, 10)
    assert (store.expired, store.evicted) == (10, 0)


def test_the_longest_unused_goes() -> None:
    store, table = full_store(20)
    store.sweep(T0, 100)
    for number in range(20):
        if number != 13:
            charge(table, b"%06d" % number, 1, T0 + 1)
    store.sweep(T0 + 1, 100)
    charge(table, b"new", S, T0 + 2)
    store.sweep(T0 + 2, 100)
    assert b"%06d" % 13 not in table.states
    assert (store.size, store.evicted) == (20, 1)


def test_a_counter_that_keeps_refusing_is_in_use() -> None:
    store, table = full_store(20)
    store.sweep(T0, 100)
    assert charge(table, b"%06d" % 4, 9 * S, T0 + 1) < 0
    for number in range(20, 39):
        charge(table, b"%06d" % number, 5 * S, T0 + 2)
        store.sweep(T0 + 2, 100)
    assert b"%06d" % 4 in table.states
    assert store.evicted == 19


def test_a_refusal_counts_as_one_use() -> None:
    store, table = full_store(20)
    store.sweep(T0, 100)
    assert charge(table, b"000004", 9 * S, T0 + 1) < 0
    store.sweep(T0 + 1, 100)
    for number in range(20):
        if number != 4:
            charge(table, b"%06d" % number, 1, T0 + 2)
    store.sweep(T0 + 2, 100)
    charge(table, b"new", 5 * S, T0 + 3)
    store.sweep(T0 + 3, 100)
    assert b"000004" not in table.states


def test_what_is_dropped_is_no_longer_touched() -> None:
    store = CounterStore(PLENTY)
    (table,) = store.install(1, [bucket("a")])
    charge(table, b"k", 5 * S, T0)
    assert charge(table, b"k", 9 * S, T0) < 0
    store.sweep(T0 + 5 * S, 10)
    assert table.counters.touched == set()


def test_the_youngest_goes_if_it_is_the_longest_unused() -> None:
    store, table = full_store(20)
    store.sweep(T0, 100)
    for number in range(15):
        charge(table, b"%06d" % number, 1, T0 + 1)
    store.sweep(T0 + 1, 100)
    store.max_bytes -= 5 * (store.bytes // 20)
    store.sweep(T0 + 1, 100)
    assert set(table.states) == {b"%06d" % number for number in range(15)}
    check(store, table)


def test_the_bound_holds_in_a_flood_of_new_keys() -> None:
    store, table = full_store(1000)
    for number in range(1000, 9000):
        charge(table, b"%06d" % number, 5 * S, T0 + number)
        if number % 50 == 0:
            store.sweep(T0 + number, 10)
            assert store.bytes <= store.max_bytes
    assert store.evicted > 7000
    check(store, table)


def test_counters_in_use_survive_a_flood() -> None:
    store, table = full_store(1000)
    now = T0
    for number in range(1000, 5000):
        now += 1
        charge(table, b"%06d" % number, 5 * S, now)
        if number % 10 == 0:
            for regular in range(20):
                charge(table, b"%06d" % regular, 1, now)
            store.sweep(now, 200)
    # one that had been evicted in between would have started again with 10 tokens
    assert all(table.states[b"%06d" % regular][0] < 6 * S for regular in range(20))
    assert store.evicted > 3000


def test_a_long_history_weighs_more() -> None:
    store = CounterStore(PLENTY)
    params = {"window_seconds": 60, "threshold": 500, "reject": False}
    (table,) = store.install(1, [RuleSpec("loop", "x", 0, shadow=False, params=dict(params))])
    charge(table, b"k", 0, T0)
    light = store.bytes
    for _ in range(500):
        charge(table, b"k", 0, T0)
    assert isinstance(table.states[b"k"], deque)
    store.sweep(T0, 10)
    assert store.bytes > light + 500 * 40
    store.sweep(T0 + 60 * S, 10)
    assert store.bytes == 0


@pytest.mark.parametrize("state", [deque(), ()])
def test_an_empty_history_is_idle(state: object) -> None:
    store = CounterStore(PLENTY)
    params = {"window_seconds": 60, "threshold": 5, "reject": False}
    (table,) = store.install(1, [RuleSpec("loop", "x", 0, shadow=False, params=dict(params))])
    table.add(b"k", state, T0)
    assert store.sweep(T0, 10) == 1


KINDS: list[tuple[Kind, dict[str, int | str | bool | None]]] = [
    ("token_bucket", {"rate_num": 1, "rate_den": 1, "burst": 5 * S}),
    ("sliding_window", {"limit": 5 * S, "window_seconds": 3}),
    ("cost_based", {"budget": 5 * S, "period": "1m", "timezone": "UTC"}),
    ("loop", {"window_seconds": 5, "threshold": 3, "reject": True}),
    ("breaker", {"threshold": 4 * S, "auto_reset": 0}),
]
actions = st.one_of(
    st.tuples(st.just("charge"), st.integers(0, 4), st.integers(0, 30)),
    st.tuples(st.just("put back"), st.integers(0, 4), st.integers(0, 30)),
    st.tuples(st.just("wait"), st.integers(0, 8), st.just(0)),
    st.tuples(st.just("sweep"), st.integers(0, 40), st.just(0)),
)


def swept(store: CounterStore, tables: list[CounterTable], now: int, budget: int) -> int:
    """Sweep, checking that the figures tell what happened; return how many live ones went."""
    held = [dict(table.states) for table in tables]
    expired, evicted, size = store.expired, store.evicted, store.size
    gone = store.sweep(now, budget)
    assert gone == size - store.size == store.expired - expired + store.evicted - evicted
    lost_live = 0
    for table, before in zip(tables, held, strict=True):
        for lost in before.keys() - table.states.keys():
            lost_live += live(table, before[lost], now)
        for kept, state in table.states.items():
            assert state is before[kept]
    assert lost_live == store.evicted - evicted
    return lost_live


def live(table: CounterTable, state: Any, now: int) -> bool:  # noqa: ANN401 - only the limiter can read it
    idle_at = None if state is None else table.limiter.idle_at(state)
    return state is not None and (idle_at is None or idle_at > now)


@settings(deadline=None, max_examples=200)
@given(st.lists(actions, max_size=120), st.sampled_from([6_000, PLENTY]))
def test_nothing_is_lost_before_its_time(steps: list[tuple[str, int, int]], bound: int) -> None:
    store = CounterStore(bound)
    tables = store.install(
        1, [RuleSpec(kind, kind, 0, shadow=False, params=dict(p)) for kind, p in KINDS]
    )
    now = T0
    for what, one, two in steps:
        key = b"key %d" % two
        if what == "charge":
            charge(tables[one], key, S, now)
        elif what == "put back" and key in tables[one].states:
            tables[one].states[key] = None
        elif what == "wait":
            now += one * S
        elif what == "sweep":
            lost_live = swept(store, tables, now, one)
            assert store.bytes <= bound
            assert not lost_live or bound < PLENTY
        check(store, *tables)
    # a removal may move an entry behind the hand: only a round that drops nothing has seen all
    while store.size:
        before = store.size
        swept(store, tables, now, before)
        if store.size == before:
            break
    for table in tables:
        assert all(live(table, state, now) for state in table.states.values())
