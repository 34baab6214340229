"""Who hangs, decided without a process: looks at times that are given."""

import pytest

from daemon.supervisor.watchdog import BUSY, Watchdog

LIMIT = 8.0
STEP = 2.0
SERVES, BUSILY = False, True


def looks(dog: Watchdog[str], times: list[float], *, busy: bool = SERVES) -> list[list[str]]:
    return [dog.look(now, [("a", busy), ("b", busy)])[1] for now in times]


def test_a_child_is_asked_once_and_again_when_it_has_answered() -> None:
    dog: Watchdog[str] = Watchdog(LIMIT)
    assert dog.look(0.0, [("a", SERVES), ("b", SERVES)]) == (["a", "b"], [])
    dog.heard("a")
    assert dog.look(STEP, [("a", SERVES), ("b", SERVES)]) == (["a"], [])


def test_who_never_answers_hangs_after_the_limit_and_not_before() -> None:
    dog: Watchdog[str] = Watchdog(LIMIT)
    found = []
    for number in range(5):
        now = number * STEP
        found.append(dog.look(now, [("a", SERVES), ("b", SERVES)])[1])
        dog.heard("b")
    assert found == [[], [], [], [], ["a"]]


def test_who_is_busy_has_more_time_and_not_for_ever() -> None:
    dog: Watchdog[str] = Watchdog(LIMIT)
    times = [number * STEP for number in range(int(LIMIT * BUSY / STEP) + 1)]
    found = looks(dog, times, busy=BUSILY)
    assert not any(found[:-1])
    assert found[-1] == ["a", "b"]


def test_a_watchdog_that_was_stopped_blames_nobody() -> None:
    dog: Watchdog[str] = Watchdog(LIMIT)
    assert looks(dog, [0.0, STEP, 500.0, 502.0, 504.0, 506.0]) == [[]] * 6
    assert looks(dog, [508.0]) == [["a", "b"]]  # now it has looked long enough


def test_one_that_was_replaced_owes_nothing() -> None:
    dog: Watchdog[str] = Watchdog(LIMIT)
    looks(dog, [0.0, 2.0, 4.0, 6.0])
    dog.heard("a")  # gone; the next one is new
    assert looks(dog, [8.0]) == [["b"]]


def test_a_watchdog_that_is_off_asks_nobody() -> None:
    dog: Watchdog[str] = Watchdog(0.0)
    assert dog.look(0.0, [("a", SERVES)]) == dog.look(1e9, [("a", SERVES)]) == ([], [])
    assert dog.nap > 0


@pytest.mark.parametrize(("seconds", "nap"), [(0.4, 0.1), (10.0, 1.0)])
def test_it_looks_often_enough_and_not_too_often(seconds: float, nap: float) -> None:
    assert Watchdog[str](seconds).nap == nap
