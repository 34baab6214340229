"""The I/O around a proxied exchange, where it fails."""

import asyncio
from types import SimpleNamespace

import pytest

from daemon.front.http1 import HttpConnection
from daemon.front.inbound import Inbound
from daemon.front.proxy.relay import Relay
from protocol.decision import Decision

REQUEST = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\ncanary"


class Passage:
    """A way that cannot be read."""

    route = SimpleNamespace(family="openai")

    @property
    def asked(self) -> None:
        raise ValueError("canary: the text of an error may quote a request")


class Server:
    """Hands a request to a relay, and has it refused."""

    verbatim = True
    clock = 0.0
    bounds = SimpleNamespace(
        max_head_bytes=1000, max_body_bytes=1000, max_header_fields=10, header_timeout=10,
        idle_timeout=10, send_timeout=10,
    )  # fmt: skip

    def __init__(self) -> None:
        self.app = self
        self.census = SimpleNamespace(keep=lambda _: True, let_go=lambda _: None)

    def is_trusted(self, _peer: str) -> bool:
        return False

    def opened(self, _connection: HttpConnection, _peer: str, *, trusted: bool) -> str:
        return "trusted" if trusted else ""

    def handle(self, connection: HttpConnection, inbound: Inbound) -> None:
        surroundings = SimpleNamespace(max_usage=1000)
        relay = Relay(surroundings, connection, inbound, Passage())  # type: ignore[arg-type]  # what a refusal needs of them
        relay.decided(Decision(action="reject", status=429, reason="rate_limit_exceeded"), None)


class Transport(asyncio.Transport):
    """Keeps what is written."""

    sent = b""

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.sent += data


def test_a_request_that_cannot_be_metered_is_answered_and_logged_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = HttpConnection(Server())  # type: ignore[arg-type]  # what one request needs of it
    transport = Transport({"peername": ("192.0.2.1", 5)})
    connection.connection_made(transport)
    connection.data_received(REQUEST)
    assert transport.sent.startswith(b"HTTP/1.1 429 ")
    assert "a request cannot be metered: ValueError at " in caplog.text
    assert "relay.py" in caplog.text
    assert "canary" not in caplog.text
