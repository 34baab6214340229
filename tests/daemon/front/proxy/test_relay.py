"""The I/O around a proxied exchange, where it fails."""

from types import SimpleNamespace

import pytest

from daemon.front.inbound import Inbound
from daemon.front.proxy.relay import Relay
from protocol.decision import Decision


class Client(SimpleNamespace):
    """A connection that keeps what it is answered."""

    answered = b""

    def attach(self, _watcher: object) -> None:
        return

    def respond(self, head: bytes, body: bytes = b"") -> None:
        self.answered = head + body


class Passage:
    """A way that cannot be read."""

    route = SimpleNamespace(family="openai")

    @property
    def asked(self) -> None:
        raise ValueError("canary: the text of an error may quote a request")


def test_a_request_that_cannot_be_metered_is_answered_and_logged_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Client()
    inbound = Inbound("POST", b"/v1/x", {}, b"canary", "192.0.2.1", trusted=False)
    surroundings = SimpleNamespace(max_usage=1000)
    relay = Relay(surroundings, client, inbound, Passage())  # type: ignore[arg-type]  # what a refusal needs of them
    relay.decided(Decision(action="reject", status=429, reason="rate_limit_exceeded"), None)
    assert client.answered.startswith(b"HTTP/1.1 429 ")
    assert "a request cannot be metered: ValueError at " in caplog.text
    assert "relay.py" in caplog.text
    assert "canary" not in caplog.text
