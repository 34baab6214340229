"""What a front counts of its clients, and what it says of it."""

import logging

import pytest

from daemon.front.census import ClientCensus
from daemon.front.rate_limited_log import RateLimitedLog
from daemon.front.tally import Tally


@pytest.fixture(name="census")
def _census() -> tuple[ClientCensus, Tally]:
    tally = Tally()
    log = RateLimitedLog(logging.getLogger("fairvisor"))
    return ClientCensus(tally, log, lambda: 5.0, max_bodies=100), tally


def test_what_was_turned_away_is_counted_and_said_once(
    census: tuple[ClientCensus, Tally], caplog: pytest.LogCaptureFixture
) -> None:
    counted, tally = census
    for _ in range(3):
        counted.turned_away("peer", "192.0.2.1")
    counted.turned_away("listener", "192.0.2.1")
    counted.turned_away("listener", "192.0.2.2")
    counters, _, _ = tally.snapshot(0)
    assert ["connections_refused_total", ("peer",), 3] in counters
    assert ["connections_refused_total", ("listener",), 2] in counters
    assert len(caplog.records) == 2
    assert "192.0.2.1: it has FAIRVISOR_MAX_CONNECTIONS_PER_PEER open" in caplog.text
    assert "FAIRVISOR_MAX_CONNECTIONS is reached" in caplog.text


def test_a_failure_is_logged_once_without_its_text(
    census: tuple[ClientCensus, Tally], caplog: pytest.LogCaptureFixture
) -> None:
    counted, tally = census
    for _ in range(3):
        try:
            next(iter({}["boom"]))
        except LookupError as error:
            counted.failed(error)
    assert ["evaluate_errors_total", ("KeyError",), 3] in tally.snapshot(0)[0]
    assert len(caplog.records) == 1
    assert "a request could not be handled: KeyError at " in caplog.text
    assert "test_census.py" in caplog.text
    assert "boom" not in caplog.text


def test_bodies_have_a_bound_together(census: tuple[ClientCensus, Tally]) -> None:
    counted, _ = census
    assert [counted.keep(60), counted.keep(41), counted.keep(40)] == [True, False, True]
    counted.let_go(60)
    assert (counted.keep(61), counted.bodies) == (False, 40)
