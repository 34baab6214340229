import logging

import pytest

from daemon.front.rate_limited_log import MAX_KEYS, PERIOD, RateLimitedLog


@pytest.fixture(name="log")
def _log(caplog: pytest.LogCaptureFixture) -> RateLimitedLog:
    caplog.set_level(logging.DEBUG)
    return RateLimitedLog(logging.getLogger("test"))


def test_one_line_a_minute_for_each_kind_and_key(
    log: RateLimitedLog, caplog: pytest.LogCaptureFixture
) -> None:
    said = [
        log.say(kind, key, now, logging.WARNING, "%s of %s", kind, key)
        for now, kind, key in [
            (0.0, "a", "x"),
            (1.0, "a", "x"),
            (1.0, "a", "y"),
            (1.0, "b", "x"),
            (PERIOD - 0.1, "a", "x"),
            (PERIOD, "a", "x"),
            (PERIOD + 1, "a", "x"),
        ]
    ]
    assert said == [True, False, True, True, False, True, False]
    assert caplog.messages == ["a of x", "a of y", "b of x", "a of x"]


def test_asking_is_not_saying(log: RateLimitedLog) -> None:
    assert not log.quiet("a", "x", 0.0)
    assert log.say("a", "x", 0.0, logging.INFO, "line")
    assert log.quiet("a", "x", 1.0)


def test_many_keys_neither_fill_memory_nor_the_log(
    log: RateLimitedLog, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(10 * MAX_KEYS):
        log.say("a", str(number), 1.0, logging.INFO, "line")
    assert len(caplog.messages) == MAX_KEYS
    assert log.quiet("a", "new", PERIOD)
    assert log.say("a", "new", PERIOD + 1, logging.INFO, "line")
    assert not log.quiet("a", "newer", PERIOD + 1)


def test_room_comes_back_oldest_first(log: RateLimitedLog) -> None:
    for number in range(MAX_KEYS):
        log.say("a", str(number), float(number) / MAX_KEYS, logging.INFO, "line")
    assert log.say("a", "0", PERIOD, logging.INFO, "again")
    assert log.quiet("a", "new", PERIOD)
    assert not log.quiet("a", "new", PERIOD + 0.01)
