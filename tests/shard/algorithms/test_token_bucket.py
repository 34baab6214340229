"""Token bucket (§5.5.2): worked examples and the formula in fractions."""

from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard.algorithms.token_bucket import TokenBucketLimiter

S = 1_000_000
T0 = 1_700_000_000 * S


def bucket(rate: Fraction | int, burst: int) -> TokenBucketLimiter:
    rate = Fraction(rate)
    return TokenBucketLimiter.build(
        {"rate_num": rate.numerator, "rate_den": rate.denominator, "burst": burst * S}
    )


@pytest.mark.parametrize(
    ("rate", "burst", "operations"),
    [
        # (seconds after the start, cost in tokens, verdict)
        (10, 20, [(0, 5, 15), (0, 5, 10), (0, 5, 5), (0, 5, 0), (0, 5, -1)]),
        (100, 200, [(0, 200, 0), (0, 1, -1), (1, 1, 99)]),
        (100, 200, [(0, 50, 150), (10, 1, 199)]),
        (1, 50, [(0, 50, 0), (10_000, 1, 49)]),
        (10, 100, [(0, 150, -5), (3600, 150, -5)]),
        (1, 10, [(0, 5, 5), (0, 3, 2), (0, 3, -1)]),
        (20, 20, [(0, 20, 0), (Fraction(1, 2), 1, 9)]),
        # a clock that goes back adds nothing, and what follows refills from there
        (10, 10, [(0, 5, 5), (-1, 1, 4), (0, 1, 9)]),
        # a third of a token a second: not a hair early
        (Fraction(1, 3), 1, [(0, 1, 0), (Fraction(2_999_999, S), 1, -1), (3, 1, 0)]),
        (Fraction(1, 3), 1, [(0, 1, 0), (0, 1, -3), (1, 1, -2)]),
    ],
)
def test_examples(
    rate: Fraction | int, burst: int, operations: list[tuple[Fraction, int, int]]
) -> None:
    limiter = bucket(rate, burst)
    state = None
    for after, cost, expected in operations:
        state, verdict = limiter.charge(state, cost * S, T0 + int(after * S))
        assert verdict == expected


def test_ten_times_a_tenth_is_exactly_one() -> None:
    limiter = bucket(Fraction(1, 1000), 1)
    state = None
    for _ in range(10):
        state, verdict = limiter.charge(state, S // 10, T0)
        assert verdict == 0
    assert state == (0, T0)
    assert limiter.charge(state, 1, T0) == (state, -1)


def test_a_refusal_changes_nothing() -> None:
    limiter = bucket(1, 5)
    state, _ = limiter.charge(None, 5 * S, T0)
    assert limiter.charge(state, 3 * S, T0 + S)[0] is state
    assert limiter.charge(None, 6 * S, T0) == (None, -1)


def test_a_refusal_after_a_step_back_forgets_the_future() -> None:
    limiter = bucket(1, 5)
    state, _ = limiter.charge(None, 5 * S, T0)
    day_before = T0 - 86_400 * S
    state, verdict = limiter.charge(state, S, day_before)
    assert (state, verdict) == ((0, day_before), -1)
    assert limiter.charge(state, S, day_before + S)[1] == 0


def test_undo_gives_back_but_never_above_the_capacity() -> None:
    limiter = bucket(1, 10)
    state, _ = limiter.charge(None, 6 * S, T0)
    assert limiter.undo(state, 6 * S, T0, T0) == (10 * S, T0)
    assert limiter.undo(state, 2 * S, T0, T0 + S) == (7 * S, T0 + S)
    assert limiter.undo(state, 2 * S, T0, T0 + 100 * S) == (10 * S, T0 + 100 * S)
    assert limiter.undo(None, S, T0, T0) is None


def test_retract_takes_nothing_from_a_refusal() -> None:
    limiter = bucket(1, 10)
    state, verdict = limiter.charge(None, 6 * S, T0)
    assert limiter.retract(state, 6 * S, T0, T0, verdict) == (10 * S, T0)
    kept, verdict = limiter.charge(state, 6 * S, T0)
    assert limiter.retract(kept, 6 * S, T0, T0, verdict) is state


def test_idle_when_full_to_the_microsecond() -> None:
    limiter = bucket(3, 1)
    state, _ = limiter.charge(None, S, T0)
    assert state is not None
    assert limiter.idle_at(state) == T0 + 333_334
    assert limiter.idle_at((3 * S, T0)) <= T0


rates = st.fractions(Fraction(1, 1000), 10_000, max_denominator=1000)
steps = st.lists(
    st.tuples(st.integers(0, 3 * S), st.integers(1, 30 * S), st.booleans()), max_size=40
)


@given(rates, st.integers(1, 20 * S), steps)
def test_agrees_with_the_formula(
    rate: Fraction, burst: int, steps: list[tuple[int, int, bool]]
) -> None:
    limiter = TokenBucketLimiter.build(
        {"rate_num": rate.numerator, "rate_den": rate.denominator, "burst": burst}
    )
    state = None
    tokens, capacity, last, now = Fraction(burst, S), Fraction(burst, S), T0, T0
    net = Fraction(0)
    for wait, micro, undone in steps:
        now += wait
        cost = Fraction(micro, S)
        tokens = min(tokens + Fraction(now - last, S) * rate, capacity)
        last = now
        before = state
        state, verdict = limiter.charge(state, micro, now)
        if tokens >= cost:
            tokens -= cost
            assert verdict == floor(tokens)
            net += cost
            if undone:
                state = limiter.undo(state, micro, now, now)
                tokens = min(tokens + cost, capacity)
                net -= cost
        else:
            assert state is before
            assert verdict == -max(1, ceil((cost - tokens) / rate))
        assert net <= capacity + rate * Fraction(now - T0, S)
        if state is not None:
            level, held_since = state
            refilled = level + (now - held_since) * rate.numerator
            assert min(Fraction(refilled, rate.denominator * S), capacity) == tokens
