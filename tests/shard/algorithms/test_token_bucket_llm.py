"""LLM tokens per minute and day (§5.6, §11.2): worked examples and the formula in fractions."""

from fractions import Fraction
from math import ceil, floor

from hypothesis import given
from hypothesis import strategies as st

from shard.algorithms.token_bucket_llm import LlmLimiter

S = 1_000_000
DAY = 86_400 * S
T0 = 1_700_000_000 * S


def llm(tpm: int, *, burst: int | None = None, tpd: int | None = None) -> LlmLimiter:
    return LlmLimiter.build(
        {
            "tpm": tpm * S,
            "burst": (burst or tpm) * S,
            "tpd": None if tpd is None else tpd * S,
        }
    )


def test_minute_refusals_tell_when_it_fits() -> None:
    limiter = llm(60_000)
    state, verdict = limiter.charge(None, 60_000, T0)
    assert verdict == [0, None]
    assert limiter.charge(state, 12_000, T0) == (state, [-12, 0])
    assert limiter.charge(state, 12_001, T0) == (state, [-13, 0])
    assert limiter.charge(state, 12_000, T0 + 12 * S)[1] == [0, None]


def test_burst_above_the_minute_rate() -> None:
    limiter = llm(600, burst=1200)
    state, verdict = limiter.charge(None, 1200, T0)
    assert verdict == [0, None]
    state, verdict = limiter.charge(state, 300, T0 + 30 * S)
    assert verdict == [0, None]
    assert limiter.charge(state, 1, T0 + 30 * S)[1] == [-1, 0]


def test_a_day_refusal_leaves_the_minute_alone() -> None:
    limiter = llm(600, tpd=1000)
    state, verdict = limiter.charge(None, 500, T0)
    assert verdict == [100, 500]
    refused, verdict = limiter.charge(state, 600, T0 + 60 * S)
    assert refused is state
    assert verdict == [-6340, 1, 500]
    assert limiter.charge(refused, 500, T0 + 60 * S)[1] == [100, 0]


def test_a_new_utc_day_starts_at_zero() -> None:
    limiter = llm(1000, tpd=1000)
    state, _ = limiter.charge(None, 1000, T0)
    assert limiter.charge(state, 1, T0 + 6399 * S)[1] == [-1, 1, 0]
    assert limiter.charge(state, 900, T0 + 6400 * S)[1] == [100, 100]


def test_part_of_a_daily_token_is_no_token() -> None:
    limiter = LlmLimiter.build({"tpm": 100 * S, "burst": 100 * S, "tpd": 10 * S + S // 2})
    state, verdict = limiter.charge(None, 10, T0)
    assert verdict == [90, 0]
    assert limiter.charge(state, 1, T0)[1] == [-6400, 1, 0]


def test_an_overrun_puts_the_minute_into_debt() -> None:
    limiter = llm(600, tpd=5000)
    state, _ = limiter.charge(None, 500, T0)
    state = limiter.settle(state, 500, 900, T0, T0)
    assert limiter.charge(state, 100, T0)[1] == [-40, 0]
    assert limiter.charge(state, 100, T0 + 39 * S)[1] == [-1, 0]
    assert limiter.charge(state, 100, T0 + 40 * S)[1] == [0, 4000]


def test_an_overrun_may_pass_the_day_limit() -> None:
    limiter = llm(1000, tpd=1000)
    state, _ = limiter.charge(None, 800, T0)
    state = limiter.settle(state, 800, 1400, T0, T0)
    assert limiter.charge(state, 1, T0 + 300 * S)[1] == [-6100, 1, 0]


def test_a_late_refund_leaves_the_new_day_alone() -> None:
    limiter = llm(100_000, tpd=1000)
    eve = T0 + 6399 * S
    state, _ = limiter.charge(None, 1000, eve)
    state, verdict = limiter.charge(state, 500, eve + 2 * S)
    assert verdict == [99_500, 500]
    state = limiter.settle(state, 1000, 100, eve, eve + 3 * S)
    assert limiter.charge(state, 300, eve + 3 * S)[1] == [99_700, 200]


def test_a_refund_stops_at_the_capacity() -> None:
    limiter = llm(1000)
    state, _ = limiter.charge(None, 1000, T0)
    state = limiter.settle(state, 1000, 0, T0, T0 + 60 * S)
    assert limiter.charge(state, 1000, T0 + 60 * S)[1] == [0, None]
    assert limiter.charge(state, 1001, T0 + 60 * S)[1] == [-1, 0]


def test_a_forgotten_counter_still_owes_an_overrun() -> None:
    limiter = llm(600, tpd=5000)
    state = limiter.settle(None, 100, 500, T0, T0 + S)
    assert limiter.charge(state, 0, T0 + S)[1] == [200, 4600]
    assert limiter.settle(None, 100, 50, T0, T0 + S) is None
    assert limiter.undo(None, 100, T0, T0) is None


def test_undo_gives_back_minute_and_day() -> None:
    limiter = llm(600, tpd=5000)
    state, verdict = limiter.charge(None, 500, T0)
    back = limiter.undo(state, 500, T0, T0 + S)
    assert limiter.charge(back, 600, T0 + S)[1] == [0, 4400]
    assert limiter.retract(state, 500, T0, T0 + S, verdict) == back
    assert limiter.retract(state, 500, T0, T0 + S, [-1, 0]) is state
    # the day of the charge is over: only the minute gets it back
    tomorrow, _ = limiter.charge(state, 100, T0 + DAY)
    back = limiter.undo(tomorrow, 500, T0, T0 + DAY)
    assert limiter.charge(back, 0, T0 + DAY)[1] == [600, 4900]


def test_a_clock_that_steps_back_carries_the_day() -> None:
    limiter = llm(600, tpd=1000)
    state, _ = limiter.charge(None, 600, T0)
    state, verdict = limiter.charge(state, 401, T0 - DAY)
    assert verdict == [-41, 0]
    state, verdict = limiter.charge(state, 401, T0 - DAY + 60 * S)
    assert verdict == [-6340, 1, 400]
    assert limiter.charge(state, 401, T0 - DAY + 6400 * S)[1] == [199, 599]


def test_idle_when_full_and_the_day_is_over() -> None:
    minute, day = llm(600), llm(600, tpd=5000)
    state, _ = minute.charge(None, 10, T0)
    assert state is not None
    assert minute.idle_at(state) == T0 + S
    state, _ = day.charge(None, 10, T0)
    assert state is not None
    assert day.idle_at(state) == T0 + 6400 * S
    # full only after the end of the day
    state, _ = day.charge(None, 600, T0 + 6390 * S)
    assert state is not None
    assert day.idle_at(state) == T0 + 6450 * S


steps = st.lists(
    st.tuples(
        st.integers(0, 7200 * S),
        st.integers(0, 800),
        st.sampled_from(["keep", "undo", "settle"]),
        st.integers(0, 900),
    ),
    max_size=40,
)


@given(
    st.integers(1, 700 * S),
    st.integers(0, 300 * S),
    st.none() | st.integers(1, 3000 * S),
    steps,
)
def test_agrees_with_the_formula(
    tpm: int, extra: int, tpd: int | None, steps: list[tuple[int, int, str, int]]
) -> None:
    limiter = LlmLimiter.build({"tpm": tpm, "burst": tpm + extra, "tpd": tpd})
    rate, burst = Fraction(tpm, S * 60), Fraction(tpm + extra, S)
    tokens, last, days = burst, T0, dict[int, int]()
    per_day = None if tpd is None else Fraction(tpd, S)
    state, now = None, T0
    for wait, cost, then, actual in steps:
        now += wait
        tokens, last = min(burst, tokens + rate * Fraction(now - last, S)), now
        day = now // DAY
        used = days.get(day, 0)
        before = state
        state, verdict = limiter.charge(state, cost, now)
        if cost > tokens:
            assert verdict == [-max(1, ceil((cost - tokens) / rate)), 0]
            assert state is before
            continue
        if per_day is not None and used + cost > per_day:
            midnight = max(1, ceil(Fraction((day + 1) * DAY - now, S)))
            assert verdict == [-midnight, 1, max(0, floor(per_day - used))]
            assert state is before
            continue
        tokens -= cost
        days[day] = used + cost
        left = None if per_day is None else floor(per_day - days[day])
        assert verdict == [floor(tokens), left]
        charged_at, now = now, now + wait
        if then == "keep":
            continue
        spent = 0 if then == "undo" else actual
        tokens, last = min(burst, tokens + rate * Fraction(now - last, S)), now
        tokens = min(burst, tokens + cost - spent)
        days[day] = max(0, days[day] + spent - cost)
        if then == "undo":
            state = limiter.undo(state, cost, charged_at, now)
        else:
            state = limiter.settle(state, cost, actual, charged_at, now)
