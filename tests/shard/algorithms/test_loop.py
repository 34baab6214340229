"""Loop detection (§5.7): worked examples and a list of all hits as the model."""

from collections import deque
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shard.algorithms.loop import LoopLimiter, State

S = 1_000_000
T0 = 1_700_000_000 * S


def loop(seconds: int, threshold: int, *, reject: bool = True) -> LoopLimiter:
    return LoopLimiter.build({"window_seconds": seconds, "threshold": threshold, "reject": reject})


def hits(limiter: LoopLimiter, *seconds: float) -> list[object]:
    state: State | None = None
    verdicts: list[object] = []
    for second in seconds:
        state, verdict = limiter.charge(state, 0, T0 + int(second * S))
        verdicts.append(verdict)
    return verdicts


def test_refused_attempts_count() -> None:
    assert hits(loop(60, 3), 0, 0, 0, 0) == [1, 2, [-60, 3], [-60, 4]]


def test_without_reject_it_only_counts() -> None:
    assert hits(loop(60, 3, reject=False), 0, 0, 0, 0) == [1, 2, 3, 4]


def test_old_hits_leave_one_by_one() -> None:
    assert hits(loop(60, 3), 0, 40, 61, 99.5, 100) == [1, 2, 2, [-60, 3], [-60, 3]]


def test_a_hit_exactly_one_window_old_does_not_count() -> None:
    assert hits(loop(60, 2), 0, 60) == [1, 1]
    assert hits(loop(60, 2), 0, 59.999999) == [1, [-60, 2]]


def test_slow_repetition_never_adds_up() -> None:
    assert hits(loop(10, 3), 0, 6, 12, 18, 24) == [1, 2, 2, 2, 2]


def test_undo_keeps_the_attempt_and_retract_does_not() -> None:
    limiter = loop(60, 3)
    state, _ = limiter.charge(None, 0, T0)
    state, verdict = limiter.charge(state, 0, T0 + S)
    assert limiter.undo(state, 0, T0 + S, T0 + S) is state
    assert limiter.retract(state, 0, T0 + S, T0 + S, verdict) == (T0,)
    assert limiter.retract(state, 0, T0 + 2, T0 + S, verdict) is state
    empty = limiter.retract((T0,), 0, T0, T0, 1)
    assert empty == ()
    assert limiter.idle_at(empty) == 0
    assert limiter.charge(empty, 0, T0)[1] == 1


def test_retract_from_a_long_history() -> None:
    limiter = loop(60, 100)
    state: State | None = None
    for second in range(30):
        state, verdict = limiter.charge(state, 0, T0 + second * S)
    assert isinstance(state, deque)
    state = limiter.retract(state, 0, T0 + 7 * S, T0 + 30 * S, verdict)
    assert state is not None
    assert T0 + 7 * S not in state
    assert limiter.charge(state, 0, T0 + 30 * S)[1] == 30


def test_the_history_is_bounded() -> None:
    state: State | None = None
    limiter = loop(60, 3)
    for _ in range(1500):
        state, verdict = limiter.charge(state, 0, T0)
    assert verdict == [-60, 1000]
    limiter, state = loop(60, 1200), None
    for _ in range(1500):
        state, verdict = limiter.charge(state, 0, T0)
    assert verdict == [-60, 1200]


def test_a_long_history_becomes_short_again() -> None:
    limiter = loop(60, 100)
    state: State | None = None
    for _ in range(30):
        state, _ = limiter.charge(state, 0, T0)
    assert isinstance(state, deque)
    assert limiter.charge(state, 0, T0 + 60 * S) == ((T0 + 60 * S,), 1)


def test_a_clock_that_steps_back_takes_the_history_along() -> None:
    limiter = loop(60, 4)
    state, _ = limiter.charge(None, 0, T0)
    state, _ = limiter.charge(state, 0, T0 + 50 * S)
    state, verdict = limiter.charge(state, 0, T0 - 3600 * S)
    assert (state, verdict) == ((T0 - 3650 * S, T0 - 3600 * S, T0 - 3600 * S), 3)
    assert limiter.charge(state, 0, T0 - 3590 * S)[1] == 3


def test_idle_when_the_newest_hit_is_old() -> None:
    assert loop(60, 3).idle_at((T0, T0 + 5)) == T0 + 60 * S + 5


@given(
    seconds=st.integers(1, 5),
    threshold=st.integers(2, 30),
    reject=st.booleans(),
    waits=st.lists(st.integers(0, S), max_size=150),
)
def test_agrees_with_a_list_of_all_hits(
    *, seconds: int, threshold: int, reject: bool, waits: list[int]
) -> None:
    limiter = loop(seconds, threshold, reject=reject)
    every: list[int] = []
    state: State | None = None
    now = T0
    for wait in waits:
        now += wait
        every.append(now)
        number = sum(now - hit < seconds * S for hit in every)
        state, verdict = limiter.charge(state, 0, now)
        assert verdict == ([-seconds, number] if reject and number >= threshold else number)
        assert all(earlier <= later for earlier, later in pairwise(state))
