"""What is dropped as expired by a clock that may be wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard.caution import JUMP_US, TRUST_US, CautiousClock

S = 1_000_000
T0 = 1_770_000_000 * S
YEAR = 365 * 86_400 * S


def test_a_clock_far_ahead_at_start_is_believed_after_ten_minutes() -> None:
    clock = CautiousClock(T0, 0)
    assert clock.at(T0 + YEAR, 0) == T0
    assert clock.at(T0 + YEAR + 60 * S, 60 * S) == T0 + 60 * S
    assert clock.at(T0 + YEAR + TRUST_US, TRUST_US) == T0 + YEAR + TRUST_US


def test_one_that_is_set_right_is_followed() -> None:
    clock = CautiousClock(T0, 0)
    assert clock.at(T0 + YEAR, 5 * S) == T0 + 5 * S
    assert clock.at(T0 + 9 * S, 9 * S) == T0 + 9 * S
    assert clock.at(T0 + 7 * S, 10 * S) == T0 + 7 * S


@pytest.mark.parametrize("sure", [0, T0 - JUMP_US])
def test_one_that_is_right_is_believed_at_once(sure: int) -> None:
    clock = CautiousClock(sure, 7)
    assert clock.at(T0, 7) == T0
    assert clock.at(T0 + S, 7 + S) == T0 + S


def test_a_jump_while_running_waits_too_and_another_begins_anew() -> None:
    clock = CautiousClock(0, 0)
    assert clock.at(T0, 0) == T0
    assert clock.at(T0 + YEAR, S) == T0 + S
    assert clock.at(T0 + 2 * YEAR, TRUST_US) == T0 + TRUST_US
    assert clock.at(T0 + 2 * YEAR + 5 * S, TRUST_US + 5 * S) == T0 + TRUST_US + 5 * S
    later = 2 * TRUST_US
    assert clock.at(T0 + 2 * YEAR + TRUST_US, later) == T0 + 2 * YEAR + TRUST_US


steps = st.lists(st.tuples(st.integers(0, 900), st.integers(-(10**6), 10**8)), max_size=20)


@given(st.sampled_from([0, T0 - 90 * S, T0, T0 + YEAR]), steps)
def test_nothing_is_dropped_by_a_later_time_than_the_clock_shows(
    sure: int, jumps: list[tuple[int, int]]
) -> None:
    clock = CautiousClock(sure, 0)
    now, steady = T0, 0
    for seconds, jump in jumps:
        steady += seconds * S
        now += (seconds + jump) * S
        assert clock.at(now, steady) <= now
    # and whatever has happened, an even clock is believed in the end
    assert clock.at(now + TRUST_US, steady + TRUST_US) <= now + TRUST_US
    last = now + 2 * TRUST_US
    assert clock.at(last, steady + 2 * TRUST_US) == last
