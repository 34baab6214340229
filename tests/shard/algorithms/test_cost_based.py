"""Budgets (§5.5.3, §11.2): worked examples and a model that keeps every period apart."""

from decimal import Decimal
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.periods import bounds
from shard.algorithms.cost_based import BudgetLimiter

S = 1_000_000
DAY = 86_400


def budget(units: int, period: str = "1d", zone: str = "UTC") -> BudgetLimiter:
    return BudgetLimiter.build({"budget": units * S, "period": period, "timezone": zone})


@pytest.mark.parametrize(
    ("limiter", "operations"),
    [
        # (epoch seconds, cost in units, units left or -retry)
        (budget(10_000), [(1_770_077_800, 100, 9900)]),
        (budget(100), [(1_708_041_600, 10, 90), (1_708_041_600, 90, 0), (1_708_041_600, 1, -DAY)]),
        (budget(100), [(1_708_041_600, 50, 50), (1_708_041_600, 60, -DAY), (1_708_041_601, 50, 0)]),
        (budget(100), [(1_770_163_199, 100, 0), (1_770_163_199, 1, -1), (1_770_163_201, 100, 0)]),
        (budget(10, "5m"), [(1_770_129_299, 10, 0), (1_770_129_299, 1, -1), (1_770_129_300, 1, 9)]),
        (budget(10, "5m"), [(1_770_129_010, 10, 0), (1_770_129_010, 10, -290)]),
        (budget(1, "7d"), [(1_769_903_999, 1, 0), (1_769_904_000, 1, -DAY), (1_769_990_400, 1, 0)]),
        (budget(2, "1m"), [(1_700_000_000, 2, 0), (1_700_000_000, 1, -40), (1_700_000_040, 1, 1)]),
        (
            budget(5, "1mo", "America/New_York"),
            [(1_772_341_100, 5, 0), (1_772_341_190, 5, -10), (1_772_341_200, 5, 0)],
        ),
        (budget(5), [(0, 6, -DAY)]),
    ],
)
def test_examples(limiter: BudgetLimiter, operations: list[tuple[int, int, int]]) -> None:
    state = None
    for at, cost, expected in operations:
        state, verdict = limiter.charge(state, cost * S, at * S)
        assert verdict == (expected * S if expected >= 0 else expected)


def test_ten_times_a_tenth_is_exactly_one() -> None:
    limiter = budget(1)
    state = None
    tenth = int(Decimal("0.1") * S)
    for spent in range(1, 11):
        state, verdict = limiter.charge(state, tenth, 0)
        assert verdict == S - spent * tenth
    assert state == (0, DAY * S, S)
    assert limiter.charge(state, 1, 0) == (state, -DAY)


def test_undo_reaches_only_the_current_period() -> None:
    limiter = budget(10)
    state, _ = limiter.charge(None, 4 * S, 100 * S)
    assert state is not None
    assert limiter.undo(state, 3 * S, 100 * S, 101 * S) == (0, DAY * S, S)
    assert limiter.undo(state, 5 * S, 100 * S, 101 * S) == (0, DAY * S, 0)
    tomorrow, _ = limiter.charge(state, S, DAY * S)
    assert limiter.undo(tomorrow, 3 * S, 100 * S, DAY * S) is tomorrow
    assert limiter.undo(None, S, 0, 0) is None


def test_settlement_spends_the_difference_in_its_own_period() -> None:
    limiter = budget(10)
    state, _ = limiter.charge(None, 4 * S, 100 * S)
    assert limiter.settle(state, 4 * S, S, 100 * S, 200 * S) == (0, DAY * S, S)
    over = limiter.settle(state, 4 * S, 15 * S, 100 * S, 200 * S)
    assert over == (0, DAY * S, 15 * S)
    assert limiter.charge(over, 1, 200 * S) == (over, 200 - DAY)
    # after midnight the period of the reservation is closed
    assert limiter.settle(state, 4 * S, 9 * S, 100 * S, DAY * S) is state
    # an evicted counter still owes the overrun, and has nothing to give back
    assert limiter.settle(None, 4 * S, 6 * S, 100 * S, 200 * S) == (0, DAY * S, 2 * S)
    assert limiter.settle(None, 4 * S, S, 100 * S, 200 * S) is None


def test_a_clock_that_steps_back_carries_what_was_spent() -> None:
    limiter = budget(10)
    state, _ = limiter.charge(None, 10 * S, 5 * DAY * S)
    state, verdict = limiter.charge(state, S, 3 * DAY * S)
    assert (state, verdict) == ((3 * DAY * S, 4 * DAY * S, 10 * S), -DAY)
    assert limiter.undo(state, 4 * S, 5 * DAY * S, 3 * DAY * S) == (
        3 * DAY * S,
        4 * DAY * S,
        6 * S,
    )
    assert limiter.charge(state, S, 4 * DAY * S)[1] == 9 * S


def test_counters_of_a_period_share_its_bounds() -> None:
    limiter = budget(10, "1mo", "Europe/Berlin")
    one, _ = limiter.charge(None, S, 1_770_000_000 * S)
    two, _ = limiter.charge(None, S, 1_770_000_001 * S)
    assert one is not None
    assert two is not None
    assert one[1] is two[1]


steps = st.lists(
    st.tuples(
        st.integers(0, 40_000 * S),
        st.integers(1, 6 * S),
        st.sampled_from(["keep", "undo", "settle"]),
        st.integers(0, 8 * S),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(
    st.integers(1, 10 * S),
    st.sampled_from([("1h", "UTC"), ("1d", "UTC"), ("1d", "America/Sao_Paulo"), ("7d", "UTC")]),
    steps,
)
def test_agrees_with_a_ledger(
    total: int, calendar: tuple[str, str], steps: list[tuple[int, int, str, int]]
) -> None:
    period, zone = calendar
    limiter = BudgetLimiter.build({"budget": total, "period": period, "timezone": zone})
    ledger: dict[int, int] = {}
    state = None
    now = 1_540_000_000 * S
    for wait, cost, then, actual in steps:
        now += wait
        start, end = bounds(period, zone, now)
        spent = ledger.get(start, 0)
        before = state
        state, verdict = limiter.charge(state, cost, now)
        if spent + cost > total:
            assert verdict == -max(1, ceil((end - now) / S))
            assert state is before
            continue
        ledger[start] = spent + cost
        assert verdict == total - ledger[start]
        later = now + wait
        if then == "undo":
            state = limiter.undo(state, cost, now, later)
            ledger[start] -= cost
        elif then == "settle":
            state = limiter.settle(state, cost, actual, now, later)
            ledger[start] += actual - cost
        now = later
