"""Spend circuit breaker (§5.8): worked examples and a model that keeps every minute apart."""

from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard.algorithms.breaker import CLOSED, BreakerLimiter

S = 1_000_000
MINUTE = 60 * S
T = 1_700_000_040  # starts a minute


def breaker(threshold: int, reset_minutes: int = 5) -> BreakerLimiter:
    return BreakerLimiter.build({"threshold": threshold * S, "auto_reset": reset_minutes * MINUTE})


@pytest.mark.parametrize(
    ("threshold", "reset", "operations"),
    [
        # (epoch seconds, cost in units, units per minute or [-retry, opened, units per minute])
        (1000, 5, [(T, 900, 900), (T, 100, [-300, 1, 1000])]),
        (100, 5, [(T, 90, 90), (T, 1, 91)]),
        (1000, 5, [(T, 600, 600), (T + 75, 100, 550), (T + 90, 100, 500)]),
        (500, 5, [(T, 480, 480), (T + 60, 10, 490), (T + 60, 10, [-300, 1, 500])]),
        (500, 5, [(T, 499, 499), (T + 120, 499, 499)]),
        (100, 5, [(T, 100, [-300, 1, 100]), (T + 299, 1, [-1, 0, 0]), (T + 300, 1, 1)]),
        (100, 0, [(T, 100, [-60, 1, 100]), (T + 86_400, 1, [-60, 0, 0])]),
        (100, 1, [(T, 100, [-60, 1, 100]), (T + 30, 500, [-30, 0, 0]), (T + 120, 1, 1)]),
        # what was spent before the opening still counts after the reset
        (
            100,
            1,
            [(T, 90, 90), (T, 10, [-60, 1, 100]), (T + 60, 1, 91), (T + 60, 9, [-60, 1, 100])],
        ),
        # an open breaker tells the rate without the request
        (100, 2, [(T, 90, 90), (T, 10, [-120, 1, 100]), (T + 90, 7, [-30, 0, 45])]),
    ],
)
def test_examples(
    threshold: int, reset: int, operations: list[tuple[int, int, int | list[int]]]
) -> None:
    limiter = breaker(threshold, reset)
    state = None
    for at, cost, expected in operations:
        state, verdict = limiter.charge(state, cost * S, at * S)
        if isinstance(expected, int):
            assert verdict == expected * S
        else:
            assert verdict == [*expected[:2], expected[2] * S]


def test_the_tripping_request_leaves_no_cost() -> None:
    state, _ = breaker(100).charge(None, 100 * S, T * S)
    assert state == (T * S, 0, 0, T * S, 0)


def test_refused_while_open_changes_nothing() -> None:
    limiter = breaker(100)
    state, _ = limiter.charge(None, 100 * S, T * S)
    assert limiter.charge(state, S, (T + 1) * S)[0] is state


def test_part_of_a_second_until_the_reset_is_a_second() -> None:
    limiter = BreakerLimiter.build({"threshold": S, "auto_reset": 1_500_000})
    state, verdict = limiter.charge(None, S, T * S)
    assert verdict == [-2, 1, S]
    assert limiter.charge(state, S, T * S + 1_499_999)[1] == [-1, 0, 0]


def test_undo_takes_the_cost_out_of_its_minute_and_leaves_it_open() -> None:
    limiter = breaker(100)
    state, _ = limiter.charge(None, 60 * S, T * S)
    state, _ = limiter.charge(state, 30 * S, (T + 60) * S)
    assert limiter.undo(state, 60 * S, T * S, (T + 61) * S) == ((T + 60) * S, 0, 30 * S, CLOSED, 0)
    opened, _ = limiter.charge(state, 50 * S, (T + 61) * S)
    assert limiter.undo(opened, 30 * S, (T + 60) * S, (T + 62) * S) == (
        (T + 60) * S,
        60 * S,
        0,
        (T + 61) * S,
        0,
    )
    assert limiter.undo(None, S, 0, 0) is None


def test_retract_closes_what_the_very_request_opened() -> None:
    limiter = breaker(100)
    state, _ = limiter.charge(None, 60 * S, T * S)
    opened, trip = limiter.charge(state, 50 * S, T * S)
    kept, refused = limiter.charge(opened, S, T * S)
    # the other request of the same instant did not open it
    assert limiter.retract(kept, S, T * S, T * S, refused) is kept
    assert limiter.retract(kept, 50 * S, T * S, T * S, trip) == (T * S, 0, 60 * S, CLOSED, 0)
    assert limiter.retract(state, 60 * S, T * S, T * S, 60 * S) == (T * S, 0, 0, CLOSED, 0)
    assert limiter.retract(state, 60 * S, T * S, T * S, trip) is state
    assert limiter.retract(None, 60 * S, T * S, T * S, trip) is None


def test_a_clock_that_steps_back_never_prolongs_the_opening() -> None:
    limiter = breaker(100)
    state, _ = limiter.charge(None, 100 * S, T * S)
    year_before = (T - 31_536_000) * S
    state, verdict = limiter.charge(state, S, year_before)
    assert verdict == [-300, 0, 0]
    assert limiter.charge(state, S, year_before + 5 * MINUTE)[1] == S


def test_opened_tells_both_times_while_it_is_open() -> None:
    by_itself, by_hand = breaker(100), breaker(100, 0)
    state, _ = by_hand.charge(None, 100 * S, T * S)
    assert by_hand.opened(state, (T + 10**9) * S) == (T * S, None)
    assert by_itself.opened(state, (T + 299) * S) == (T * S, (T + 300) * S)
    assert by_itself.opened(state, (T + 300) * S) is None
    assert by_hand.opened(None, T * S) is None
    closed, _ = by_hand.charge(None, S, T * S)
    assert by_hand.opened(closed, T * S) is None


def test_a_reset_by_hand_clears_state_and_both_minutes() -> None:
    limiter = breaker(100, 0)
    state, _ = limiter.charge(None, 90 * S, T * S)
    state, _ = limiter.charge(state, 90 * S, (T + 60) * S)
    assert limiter.opened(state, (T + 60) * S)
    state = limiter.reset((T + 61) * S)
    assert limiter.charge(state, 99 * S, (T + 62) * S)[1] == 99 * S


def test_what_was_charged_before_a_reset_is_not_given_back_after_it() -> None:
    limiter = breaker(100, 0)
    _, granted = limiter.charge(None, 60 * S, T * S)
    state, _ = limiter.charge(limiter.reset((T + 1) * S), 50 * S, (T + 1) * S)
    assert limiter.undo(state, 60 * S, T * S, (T + 2) * S) is state
    assert limiter.retract(state, 60 * S, T * S, (T + 2) * S, granted) is state
    # what was charged at the reset's own moment came after it
    state = limiter.undo(state, 50 * S, (T + 1) * S, (T + 2) * S)
    assert limiter.charge(state, 0, (T + 2) * S)[1] == 0


def test_a_reset_also_survives_that_it_opens_again() -> None:
    limiter = breaker(100, 1)
    state, _ = limiter.charge(limiter.reset((T + 1) * S), 50 * S, (T + 1) * S)
    state, trip = limiter.charge(state, 60 * S, (T + 2) * S)
    assert trip == [-60, 1, 110 * S]
    state = limiter.undo(state, 40 * S, T * S, (T + 3) * S)
    state, _ = limiter.charge(state, 0, (T + 62) * S)
    assert state == ((T + 60) * S, 50 * S, 0, CLOSED, (T + 1) * S)


def test_a_reset_is_remembered_until_nothing_from_before_can_be_given_back() -> None:
    limiter = breaker(100, 0)
    assert limiter.idle_at(limiter.reset(T * S)) == (T + 120) * S


def test_a_reset_from_the_future_is_one_of_now() -> None:
    limiter = breaker(100, 0)
    state, _ = limiter.charge(limiter.reset((T + 999) * S), 50 * S, T * S)
    assert limiter.undo(state, 50 * S, T * S, T * S)[2] == 0  # type: ignore[index]  # not None


def test_idle_when_forgotten_and_reset() -> None:
    limiter = breaker(100)
    assert limiter.idle_at((T * S, 0, S, CLOSED, 0)) == (T + 120) * S
    assert limiter.idle_at((T * S, S, 0, CLOSED, 0)) == (T + 60) * S
    assert limiter.idle_at((T * S, 0, S, T * S, 0)) == (T + 300) * S
    assert breaker(100, 0).idle_at((T * S, 0, S, T * S, 0)) is None


@given(
    st.integers(1, 50),
    st.integers(0, 5),
    st.lists(
        st.tuples(st.integers(0, 100 * S), st.integers(0, 30 * S), st.booleans()), max_size=40
    ),
)
def test_agrees_with_the_formula(
    threshold: int, reset: int, steps: list[tuple[int, int, bool]]
) -> None:
    limiter = breaker(threshold, reset)
    minutes: dict[int, int] = {}
    opened: int | None = None
    state, now = None, T * S
    for wait, cost, undone in steps:
        now += wait
        minute = now // MINUTE
        weight = 1 - Fraction(now % MINUTE, MINUTE)
        rate = minutes.get(minute - 1, 0) * weight + minutes.get(minute, 0)
        state, verdict = limiter.charge(state, cost, now)
        if opened is not None and not (reset and now - opened >= reset * MINUTE):
            left = max(1, ceil(Fraction(opened + reset * MINUTE - now, S))) if reset else 60
            assert verdict == [-left, 0, floor(rate)]
            continue
        opened = None
        rate += cost
        if rate >= threshold * S:
            opened = now
            assert verdict == [-(reset * 60 or 60), 1, floor(rate)]
            continue
        assert verdict == floor(rate)
        if undone:
            state = limiter.undo(state, cost, now, now + wait)
        else:
            minutes[minute] = minutes.get(minute, 0) + cost
