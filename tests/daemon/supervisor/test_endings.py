"""Back-off and crash loops: a table of ends and waits."""

import pytest

from daemon.supervisor.endings import (
    FIRST_BACKOFF,
    LOOP_ENDS,
    LOOP_SECONDS,
    MAX_BACKOFF,
    STEADY_SECONDS,
    Endings,
    how_it_ended,
    next_backoff,
)


@pytest.mark.parametrize(
    ("backoff", "lived", "wait"),
    [
        (0.0, 0.0, FIRST_BACKOFF),
        (FIRST_BACKOFF, 1.0, FIRST_BACKOFF * 2),
        (4.0, 1.0, MAX_BACKOFF),
        (MAX_BACKOFF, 1.0, MAX_BACKOFF),
        (MAX_BACKOFF, STEADY_SECONDS, FIRST_BACKOFF),
    ],
)
def test_backoff(backoff: float, lived: float, wait: float) -> None:
    assert next_backoff(backoff, lived) == wait


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (3, "exit code 3"), (-9, "SIGKILL"), (-63, "signal 63")],
)
def test_how_it_ended(code: int, words: str) -> None:
    assert how_it_ended(code) == words


def test_ends_close_together_are_a_loop_and_ends_far_apart_are_none() -> None:
    close, far = Endings(), Endings()
    for number in range(LOOP_ENDS):
        assert not close.looping
        close.ended(number * 12.0, 11.0)
        far.ended(number * 16.0, 15.0)
    assert close.looping
    assert not far.looping


def test_a_loop_waits_longest_however_long_each_life() -> None:
    endings = Endings()
    waits = [endings.ended(number * 11.5, 11.0) for number in range(LOOP_ENDS + 3)]
    assert waits == [FIRST_BACKOFF] * (LOOP_ENDS - 1) + [MAX_BACKOFF] * 4


def test_slow_restarts_do_not_end_a_loop_but_a_long_life_does_once() -> None:
    endings = Endings()
    for number in range(LOOP_ENDS):
        endings.ended(float(number), 0.5)
    endings.ended(LOOP_SECONDS * 3, LOOP_SECONDS - 1)  # lived long, but not long enough
    assert endings.looping
    assert not endings.calm(LOOP_SECONDS - 1)
    assert endings.calm(LOOP_SECONDS)
    assert not endings.looping
    assert not endings.calm(LOOP_SECONDS)
    assert endings.ended(LOOP_SECONDS * 5, LOOP_SECONDS) == FIRST_BACKOFF
    assert not endings.looping
