import logging
from typing import TYPE_CHECKING, Any

import pytest

from daemon.engine.record import Decided
from daemon.front.inbound import Inbound
from daemon.front.rate_limited_log import RateLimitedLog
from daemon.front.recorder import Recorder
from daemon.front.tally import Tally

if TYPE_CHECKING:
    from tests.daemon.conftest import Play


class Lines:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def submit(self, record: dict[str, Any]) -> None:
        self.records.append(record)


class Setup:
    def __init__(self) -> None:
        self.lines = Lines()
        self.tally = Tally()
        log = RateLimitedLog(logging.getLogger("test"))
        self.recorder = Recorder(self.lines, log, self.tally, everything=False)  # type: ignore[arg-type]  # has `submit`, which is all that is used


@pytest.fixture(name="front")
def _front() -> Setup:
    return Setup()


def inbound(peer: str, **headers: str) -> Inbound:
    raw = {name.replace("_", "-").encode(): text.encode() for name, text in headers.items()}
    return Inbound("GET", b"/v1/decision", raw, b"", peer, trusted=False)


def test_a_forgotten_gateway_is_named_with_the_variable(
    front: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    front.recorder.untrusted(inbound("192.0.2.9", host="h", x_forwarded_for="1.2.3.4"), 0.0)
    front.recorder.untrusted(inbound("192.0.2.9", x_forwarded_for="1.2.3.4"), 30.0)
    front.recorder.untrusted(inbound("192.0.2.10", x_original_uri="/canary"), 30.0)
    front.recorder.untrusted(inbound("192.0.2.11", host="h"), 30.0)
    assert len(caplog.messages) == 2
    assert "x-forwarded-for from 192.0.2.9" in caplog.messages[0]
    assert "FAIRVISOR_TRUSTED_PROXIES" in caplog.messages[0]
    assert "192.0.2.10" in caplog.messages[1]
    assert "canary" not in caplog.text
    assert "1.2.3.4" not in caplog.text


def test_a_headers_name_cannot_forge_a_line(front: Setup, caplog: pytest.LogCaptureFixture) -> None:
    hostile = Inbound(
        "GET", b"/", {b"x-forwarded-\xff" + b"y" * 999: b""}, b"", "192.0.2.9", trusted=False
    )
    front.recorder.untrusted(hostile, 0.0)
    assert caplog.messages[0].isascii()
    assert len(caplog.messages[0]) < 250


def test_missing_descriptors_name_rule_and_key_once_a_minute(
    front: Setup, caplog: pytest.LogCaptureFixture, play: "Play"
) -> None:
    box = play.box({"policies": [play.policy(play.rule("jwt:org"), play.rule("jwt:team", "s"))]})
    evaluation, _ = box.evaluate(play.ask())
    for now in (0.0, 59.0, 60.0):
        front.recorder.missing(evaluation.missing, now)
    assert len(caplog.messages) == 4
    for part in ("'r'", "'p'", "jwt:org"):
        assert part in caplog.messages[0]


def test_an_error_is_counted_and_logged_without_what_it_quotes(
    front: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    for now in (0.0, 1.0):
        try:
            int("canary")
        except ValueError as error:
            front.recorder.failed(error, now)
    assert len(caplog.messages) == 1
    assert caplog.records[0].levelno == logging.ERROR
    assert "ValueError" in caplog.messages[0]
    assert "test_recorder.py" in caplog.messages[0]
    assert "canary" not in caplog.text
    counters = front.tally.snapshot(0)[0]
    assert counters == [["evaluate_errors_total", ("ValueError",), 2]]


def test_a_record_that_fails_fails_nothing_else(
    front: Setup, caplog: pytest.LogCaptureFixture, play: "Play"
) -> None:
    box = play.box({"policies": [play.policy(play.rule("ip:address"))]})
    decided = box.decide(play.ask())
    front.recorder.decided(decided, 0.0)
    assert front.lines.records[0]["event"] == "decision"
    broken = Decided(decided.decision, None, 0, 0)  # type: ignore[arg-type]  # what makes it fail
    front.recorder.decided(broken, 0.0)
    assert "a record failed with AttributeError" in caplog.text
    assert len(front.lines.records) == 1
