"""Sliding window (§5.5.2): worked examples and the formula in fractions."""

from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard.algorithms.sliding_window import SlidingWindowLimiter

S = 1_000_000


def window(limit: int, seconds: int) -> SlidingWindowLimiter:
    return SlidingWindowLimiter.build({"limit": limit * S, "window_seconds": seconds})


@pytest.mark.parametrize(
    ("limit", "seconds", "operations"),
    [
        # (epoch seconds, cost in units, verdict)
        (3, 60, [(1_700_000_040, 1, 2), (1_700_000_050, 2, 0), (1_700_000_055, 1, -65)]),
        (
            10,
            60,
            [
                (1_700_000_040, 10, 0),
                (1_700_000_100, 1, -6),
                (1_700_000_106, 1, 0),
                (1_700_000_106, 1, -6),
                (1_700_000_130, 4, 0),
                (1_700_000_130, 1, -6),
            ],
        ),
        (5, 10, [(1_700_000_040, 5, 0), (1_700_000_060, 1, 4)]),
        (100, 3600, [(1_700_002_800, 65, 35), (1_700_002_800, 36, -3656), (1_700_002_800, 35, 0)]),
        (4, 60, [(1_700_000_060, 5, -100)]),
        # cost above the limit beside a previous window: still 2W - e
        (4, 60, [(1_700_000_040, 4, 0), (1_700_000_110, 5, -110)]),
        # a full window blocks for two windows at most
        (1, 1, [(1_700_000_040, 1, 0), (1_700_000_040, 1, -2), (1_700_000_042, 1, 0)]),
    ],
)
def test_examples(limit: int, seconds: int, operations: list[tuple[int, int, int]]) -> None:
    limiter = window(limit, seconds)
    state = None
    for at, cost, expected in operations:
        state, verdict = limiter.charge(state, cost * S, at * S)
        assert verdict == expected


def test_ten_times_a_tenth_is_exactly_one() -> None:
    limiter = window(1, 60)
    state = None
    for _ in range(10):
        state, verdict = limiter.charge(state, S // 10, 0)
        assert verdict == 0
    assert state == (0, 0, S)
    assert limiter.charge(state, 1, 0)[0] is state


def test_undo_finds_the_window_of_the_charge() -> None:
    limiter = window(10, 60)
    state = (120 * S, 5 * S, 3 * S)
    assert limiter.undo(state, 2 * S, 130 * S, 131 * S) == (120 * S, 5 * S, 1 * S)
    assert limiter.undo(state, 2 * S, 119 * S, 131 * S) == (120 * S, 3 * S, 3 * S)
    assert limiter.undo(state, 2 * S, 59 * S, 131 * S) == state
    assert limiter.undo(state, 9 * S, 130 * S, 131 * S) == (120 * S, 5 * S, 0)
    assert limiter.undo(None, S, 0, 0) is None


def test_a_clock_that_steps_back_carries_the_totals() -> None:
    limiter = window(10, 60)
    state, _ = limiter.charge(None, 10 * S, 600 * S)
    state, verdict = limiter.charge(state, S, 90 * S)
    assert (state, verdict) == ((60 * S, 0, 10 * S), -36)
    # the charge counts in the window it was carried to
    assert limiter.undo(state, 4 * S, 600 * S, 90 * S) == (60 * S, 0, 6 * S)
    # and ages from there
    assert limiter.charge(state, S, 180 * S)[1] == 9


def test_idle_when_both_windows_are_past() -> None:
    limiter = window(10, 60)
    assert limiter.idle_at((120 * S, 5 * S, 1)) == 240 * S
    assert limiter.idle_at((120 * S, 5 * S, 0)) == 180 * S
    assert limiter.idle_at((120 * S, 0, 0)) == 120 * S


steps = st.lists(st.tuples(st.integers(0, 20 * S), st.integers(1, 12 * S)), max_size=40)


@given(st.integers(1, 10 * S), st.integers(1, 15), steps)
def test_agrees_with_the_formula(limit: int, seconds: int, steps: list[tuple[int, int]]) -> None:
    limiter = SlidingWindowLimiter.build({"limit": limit, "window_seconds": seconds})
    length, ceiling = Fraction(seconds), Fraction(limit, S)
    totals: dict[int, Fraction] = {}
    state = None
    now = 1_700_000_000 * S
    for wait, micro in steps:
        now += wait
        cost, time = Fraction(micro, S), Fraction(now, S)
        number = floor(time / length)
        elapsed = time - number * length
        previous, current = totals.get(number - 1, 0), totals.get(number, Fraction(0))
        weighted = previous * (1 - elapsed / length)
        before = state
        state, verdict = limiter.charge(state, micro, now)
        if weighted + current + cost > ceiling:
            if previous > 0 and current + cost <= ceiling:
                retry = length * (1 - (ceiling - cost - current) / previous) - elapsed
            elif cost > ceiling:
                retry = 2 * length - elapsed
            else:
                retry = (
                    length - elapsed + max(Fraction(0), length * (1 - (ceiling - cost) / current))
                )
            assert verdict == -max(1, ceil(retry))
            assert state is before
        else:
            totals[number] = current + cost
            assert verdict == floor(ceiling - weighted - totals[number])


@given(st.integers(1, 10 * S), st.integers(1, 15), steps, st.integers(1, 10 * S))
def test_the_retry_is_kept_and_not_a_second_too_long(
    limit: int, seconds: int, steps: list[tuple[int, int]], cost: int
) -> None:
    limiter = SlidingWindowLimiter.build({"limit": limit, "window_seconds": seconds})
    state = None
    now = 1_700_000_000 * S
    for wait, micro in steps:
        now += wait
        state, _ = limiter.charge(state, micro, now)
    state, verdict = limiter.charge(state, cost, now)
    assert isinstance(verdict, int)
    if verdict < 0 and cost <= limit:
        retry = -verdict
        assert limiter.charge(state, cost, now + retry * S)[1] >= 0  # type: ignore[operator]
        if retry > 1:
            assert limiter.charge(state, cost, now + (retry - 1) * S)[1] < 0  # type: ignore[operator]
