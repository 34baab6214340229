"""Strict and bounded HTTP over real sockets (RFC 9112); the many cases are in test_http1.py."""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

MAX_HEAD = 4096
HEADER_TIMEOUT = 0.6
IDLE_TIMEOUT = 1.5
MAX_CONNECTIONS = 40
GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
LATE = 10.0
"""Seconds that a loaded machine may take longer than promised."""

Daemon = Any


@pytest.fixture(name="daemon", scope="module")
def _daemon(serve_all: Callable[..., Daemon], bucket_policy: Callable[..., object]) -> Daemon:
    throttle = {
        "id": "slow",
        "spec": {
            "selector": {"pathPrefix": "/slow/"},
            "rules": [
                {
                    "name": "spend",
                    "limit_keys": ["header:x-api-key"],
                    "algorithm": "cost_based",
                    "algorithm_config": {
                        "budget": 1_000_000,
                        "period": "1d",
                        "staged_actions": [
                            {"threshold_percent": 1, "action": "throttle", "delay_ms": 700},
                            {"threshold_percent": 100, "action": "reject"},
                        ],
                        "cost_key": "header:x-cost",
                    },
                }
            ],
        },
    }
    bundle = {
        "bundle_version": 1,
        "policies": [throttle, bucket_policy("key", "/key/", "header:x-api-key", 0.001, 5)],
    }
    return serve_all(
        bundle,
        max_head_bytes=MAX_HEAD,
        max_body_bytes=100_000,
        header_timeout=HEADER_TIMEOUT,
        idle_timeout=IDLE_TIMEOUT,
        max_connections=MAX_CONNECTIONS,
        unix=True,
    )


@pytest.mark.parametrize("way", ["tcp", "unix"])
@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, b"nonsense\r\n\r\n"),
        (400, b"GET /livez HTTP/1.1\r\n\r\n"),
        (400, b"GET /livez HTTP/1.1\nHost: a\n\n"),
        (400, b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, b"GET /livez HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n"),
        (400, b"GET /livez HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
        (
            400,
            b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (505, b"GET /livez\r\n\r\n"),
        (417, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\n"),
        (431, b"GET /livez HTTP/1.1\r\nHost: a\r\nX: " + b"x" * MAX_HEAD + b"\r\n\r\n"),
        (431, b"GET /livez HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n"),
    ],
)
def test_refusals(daemon: Daemon, way: str, status: int, text: bytes) -> None:
    with daemon.connect(way) as connection:
        connection.send(text)
        answer = connection.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert connection.rest() == b""


def test_a_refusal_reaches_a_client_that_is_still_sending(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        for _ in range(20):
            connection.send(b"x" * 10_000)
            time.sleep(0.005)
        assert connection.answer().status == 431


@pytest.mark.parametrize(
    ("text", "connection_line", "stays"),
    [
        (GET, None, True),
        (b"GET /livez HTTP/1.0\r\n\r\n", "close", False),
        (b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive", True),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "close", False),
        (
            b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            "close",
            False,
        ),
        (b"GET http://other/livez HTTP/1.1\r\nHost: a\r\n\r\n", None, True),
    ],
)
def test_keep_alive(daemon: Daemon, text: bytes, connection_line: str, *, stays: bool) -> None:
    with daemon.connect() as connection:
        connection.send(text)
        answer = connection.answer()
        assert (answer.status, answer.body) == (200, b"ok")
        assert answer.headers.get("connection") == connection_line
        if stays:
            assert connection.request("/livez").status == 200
        else:
            assert connection.rest() == b""


def test_a_body_in_chunks_with_trailers(daemon: Daemon) -> None:
    text = (
        b"POST /v1/decision HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        b"X-Original-URI: /key/\r\nX-API-Key: trailer-%d\r\n\r\n5\r\nhello\r\n0\r\n"
        b"X-API-Key: other\r\nX-Original-URI: /free/\r\n\r\n"
    )
    with daemon.connect() as connection:
        statuses = []
        for _ in range(7):
            connection.send(text % 1)
            statuses.append(connection.answer().status)
        assert statuses == [200] * 5 + [429] * 2


def test_a_body_over_the_bound_is_read_through(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        body = b"x" * 1_000_000
        asked = {"X-Original-URI": "/free/"}
        assert connection.request(headers=asked, method="POST", body=body).status == 200
        assert connection.request("/livez").status == 200


def test_expect_100_continue(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.send(
            b"POST /v1/decision HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
            b"Content-Length: 2\r\n\r\n"
        )
        assert connection.answer().status == 100
        connection.send(b"hi")
        assert connection.answer().status == 200


def test_pipelined_answers_keep_their_order_behind_a_slow_one(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        spend = {"X-Original-URI": "/slow/a", "X-API-Key": "p", "X-Cost": "20000"}
        began = time.monotonic()
        connection.ask(headers=spend)
        for number in range(10):
            connection.ask("/livez" if number % 2 else "/nowhere")
        statuses = [connection.answer().status for _ in range(11)]
        assert statuses == [200] + [404, 200] * 5
        assert time.monotonic() - began > 0.65


def test_a_slow_answer_does_not_hold_up_others(daemon: Daemon) -> None:
    with daemon.connect() as slow, daemon.connect() as quick:
        slow.ask(headers={"X-Original-URI": "/slow/a", "X-API-Key": "q", "X-Cost": "20000"})
        answered = [quick.request("/livez").status for _ in range(50)]
        slow.sock.settimeout(0)
        with pytest.raises(BlockingIOError):
            slow.sock.recv(1)
        slow.sock.settimeout(LATE)
        assert answered == [200] * 50
        assert slow.answer().status == 200


def test_beyond_the_pipelining_bound(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.ask(headers={"X-Original-URI": "/slow/", "X-API-Key": "r", "X-Cost": "20000"})
        connection.send(GET * 70)
        statuses = [connection.answer().status for _ in range(66)]
        assert statuses == [200] * 65 + [400]
        assert connection.rest() == b""


def test_a_request_that_drips_is_timed_out(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        began = time.monotonic()
        connection.send(b"GET /livez HTTP/1.1\r\nX: ")

        def drip() -> None:
            while time.monotonic() - began < LATE:
                try:
                    connection.send(b"x")
                except OSError:
                    return
                time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        answer = connection.answer()
        took = time.monotonic() - began
        connection.sock.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert answer.status == 408
    assert HEADER_TIMEOUT <= took < HEADER_TIMEOUT + LATE


@pytest.mark.parametrize(("first", "least"), [(b"", HEADER_TIMEOUT), (GET, IDLE_TIMEOUT)])
def test_idle_connections_are_closed_silently(daemon: Daemon, first: bytes, least: float) -> None:
    began = time.monotonic()
    with daemon.connect() as connection:
        if first:
            connection.send(first)
            connection.answer()
        assert connection.rest() == b""
    assert least <= time.monotonic() - began < least + LATE


def test_a_client_that_never_reads_is_paused_and_dropped(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sock.settimeout(0.2)
        sent, began = 0, time.monotonic()
        while True:
            try:
                connection.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
                sent += 10
            except TimeoutError:
                continue  # it reads no more from us
            except OSError:
                break  # it has dropped us
            assert time.monotonic() - began < IDLE_TIMEOUT + 2 * LATE
            time.sleep(0.01)
    with daemon.connect() as other:
        assert other.request("/livez").status == 200


def test_a_half_closed_client_gets_its_answer(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.ask("/metrics")
        connection.sock.shutdown(socket.SHUT_WR)
        answer = connection.answer()
        assert answer.status == 200
        assert connection.rest() == b""


def test_too_many_connections_are_told_so_until_there_is_room(
    daemon: Daemon, wait_until: Callable[..., None]
) -> None:
    def statuses() -> list[int]:
        found = []
        for connection in connections:
            connection.send(GET)
            found.append(connection.answer().status)
        return found

    wait_until(lambda: scraped(daemon) is not None, LATE, "room for one")
    connections = [daemon.connect() for _ in range(MAX_CONNECTIONS + 10)]
    try:
        found = statuses()
        assert found.count(503) >= 10
        assert found[-1] == 503
        assert found.count(200) >= MAX_CONNECTIONS - 5  # others may still be on their way out
    finally:
        for connection in connections:
            connection.close()
    wait_until(lambda: scraped(daemon) is not None, LATE, "recovery")
    refused = 'fairvisor_connections_refused_total{reason="listener"}'
    assert int(float(str(scraped(daemon)).partition(refused)[2].split()[0])) >= 10


def scraped(daemon: Daemon) -> str | None:
    with daemon.connect() as connection:
        answer = connection.request("/metrics")
    return answer.body.decode() if answer.status == 200 else None
