"""The I/O around a proxied exchange, where it fails."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from daemon.front.http1 import HttpConnection
from daemon.front.inbound import Inbound
from daemon.front.proxy.passage import Passage
from daemon.front.proxy.relay import Relay
from daemon.front.proxy.route import Route
from daemon.front.upstream_pool import Budget, Pools
from daemon.upstream_url import UpstreamUrl
from protocol.decision import Decision

REQUEST = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\ncanary"


class Evaluation:
    """One that cannot be read."""

    unheard = False

    def __getattr__(self, name: str) -> None:
        raise ValueError(f"canary: the text of an error may quote a request ({name})")


class Server:
    """Hands a request to a relay, and has it wait."""

    verbatim = True
    clock = 0.0
    bounds = SimpleNamespace(
        max_head_bytes=1000, max_body_bytes=1000, max_header_fields=10, header_timeout=10,
        idle_timeout=10, send_timeout=10,
    )  # fmt: skip

    def __init__(self) -> None:
        self.app = self
        self.census = SimpleNamespace(keep=lambda _: True, let_go=lambda _: None)
        self.closed = lambda _: None

    def is_trusted(self, _peer: str) -> bool:
        return False

    def opened(self, _connection: HttpConnection, _peer: str, *, trusted: bool) -> str:
        return "trusted" if trusted else ""

    def handle(self, connection: HttpConnection, inbound: Inbound) -> None:
        surroundings: Any = SimpleNamespace(max_usage=1000, pools=Pools(1.0, Budget(1, 1, 1000)))
        evaluation: Any = Evaluation()
        upstream = UpstreamUrl("127.0.0.1", 1, tls=False, authority="a")
        route = Route(upstream, inbound.target, {}, [], family="openai")
        relay = Relay(surroundings, connection, inbound, Passage(surroundings, inbound, route))
        relay.decided(Decision(action="allow", delay_ms=60_000), evaluation)


class Transport(asyncio.Transport):
    """Keeps what is written."""

    sent = b""

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.sent += data


def test_a_request_that_cannot_be_metered_goes_on_and_is_logged_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def ask() -> bytes:
        connection = HttpConnection(Server())  # type: ignore[arg-type]  # what one request needs
        transport = Transport({"peername": ("192.0.2.1", 5)})
        connection.connection_made(transport)
        connection.data_received(REQUEST)
        connection.connection_lost(None)  # while it waits
        return transport.sent

    assert asyncio.run(ask()) == b""
    assert "a request cannot be metered: ValueError at " in caplog.text
    assert "relay.py" in caplog.text
    assert "canary" not in caplog.text
