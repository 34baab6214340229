"""Every bound of the proxy is hit through the real door, and says so in a metric.

Behaviour §10.1, §11.1; docs/limits.md lists the bounds, and which of these tests hits which.
"""

import asyncio
import gzip
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import pytest

from tests.e2e.conftest import Daemon, _starter, wait_for
from tests.upstreams.serving import Serving

UPSTREAMS = 2
CONNECT_TIMEOUT = 1.0
MAX_HEAD = 8192
USAGE = 2048
BODY = 50_000
TIMES = 1.5
LATE = 30.0
BOMB = 64 << 20
END = b"\r\n\r\n"


class Upstream:
    """Answers by path: /hang, /head/N, /endless, /sink, or a chat completion (see `_chat`)."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.seen = 0

    def __enter__(self) -> Self:
        self._serving = Serving(self._talk)
        self.port = self._serving.port
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._serving.stop()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(END)
        self.seen += 1
        _, kind, *rest = head.split()[1].decode().split("/")
        match kind:
            case "hang":
                await asyncio.to_thread(self.release.wait, LATE)
                writer.write(_whole(b"ok"))
            case "head":
                writer.write(_whole(b"ok", b"X: " + b"x" * int(rest[0]) + b"\r\n"))
            case "endless":
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                while True:
                    writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                    await writer.drain()
            case "sink":
                while await reader.read(65_536):
                    pass
            case _:
                writer.write(_chat(rest[-1]))


def _whole(body: bytes, fields: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n" % len(body)
    return head + fields + b"\r\n" + body


def _chat(kind: str) -> bytes:
    """Return a completion that is `short`, `long`, or a `bomb`: a few kB that expand to 64 MB."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    text = "x" * (USAGE if kind == "long" else 10)
    body = json.dumps({"choices": [{"message": {"content": text}}], "usage": usage}).encode()
    fields = b"Content-Type: application/json\r\n"
    if kind == "bomb":
        body = gzip.compress(bytes(BOMB))
        fields += b"Content-Encoding: gzip\r\n"
    return _whole(body, fields)


@pytest.fixture(name="upstream", scope="module")
def _upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(name="daemon", scope="module")
def _daemon(upstream: Upstream) -> Iterator[Daemon]:
    tokens = {
        "name": "tokens",
        "limit_keys": ["header:x-api-key"],
        "algorithm": "token_bucket_llm",
        "algorithm_config": {"tokens_per_minute": 100_000_000},
    }
    spec = {"selector": {"pathPrefix": "/chat/"}, "rules": [tokens]}
    with ExitStack() as stack:
        yield _starter(stack)(
            {"bundle_version": 1, "policies": [{"id": "llm", "spec": spec}]},
            mode="reverse_proxy",
            backend_url=f"http://127.0.0.1:{upstream.port}",
            llm_format="openai",
            upstream_max_connections=UPSTREAMS,
            upstream_connect_timeout=CONNECT_TIMEOUT,
            upstream_max_head_bytes=MAX_HEAD,
            max_usage_bytes=USAGE,
            max_body_bytes=BODY,
            header_timeout=TIMES,
            send_timeout=TIMES,
        )


def metric(daemon: Daemon, name: str) -> float:
    """Return a metric, or the sum of the series that begin so."""
    with daemon.connect() as connection:
        text = connection.request("/metrics").body.decode()
    line = re.escape(f"fairvisor_{name}") + (".* " if "{" in name else " ")
    return sum(map(float, re.findall(rf"^{line}(\S+)$", text, re.MULTILINE)))


def memory(daemon: Daemon) -> int:
    pages = Path(f"/proc/{daemon.pids()['front 0']}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_connections_to_an_upstream(daemon: Daemon, upstream: Upstream) -> None:
    before = metric(daemon, "upstream_waits_total")
    with ExitStack() as stack:
        clients = [stack.enter_context(daemon.connect()) for _ in range(UPSTREAMS + 3)]
        seen = upstream.seen
        for client in clients[:UPSTREAMS]:
            client.ask("/hang")
        wait_for(lambda: upstream.seen == seen + UPSTREAMS, LATE, "as many as may")
        assert metric(daemon, "upstream_connections") == UPSTREAMS
        for client in clients[UPSTREAMS:]:
            client.ask("/hang")
        assert [client.answer().status for client in clients[UPSTREAMS:]] == [504] * 3
        upstream.release.set()
        assert [client.answer().status for client in clients[:UPSTREAMS]] == [200] * UPSTREAMS
    assert metric(daemon, "upstream_waits_total") == before + 3
    with daemon.connect() as client:
        assert client.request("/head/1").status == 200


def test_connections_to_all_upstreams(upstream: Upstream) -> None:
    upstream.release.clear()
    with ExitStack() as stack:
        daemon = _starter(stack)(
            {"bundle_version": 1, "policies": []},
            mode="wrapper",
            wrapper_auth="passthrough",
            provider_openai_url=f"http://127.0.0.1:{upstream.port}",
            provider_groq_url=f"http://localhost:{upstream.port}",
            upstream_max_total=1,
            upstream_connect_timeout=CONNECT_TIMEOUT,
        )
        one, other = (stack.enter_context(daemon.connect()) for _ in range(2))
        key = {"Authorization": "Bearer upstream-key"}
        seen = upstream.seen
        one.ask("/openai/hang", key)
        wait_for(lambda: upstream.seen > seen, LATE, "the only connection is used")
        assert other.request("/groq/hang", key).status == 504
        assert metric(daemon, "upstream_connections") == 1
        upstream.release.set()
        assert one.answer().status == 200
        assert other.request("/groq/hang", key).status == 200
        assert metric(daemon, "upstream_waits_total") == 1


@pytest.mark.parametrize(("size", "status"), [(MAX_HEAD - 1000, 200), (MAX_HEAD, 502)])
def test_the_head_of_an_upstream(daemon: Daemon, size: int, status: int) -> None:
    with daemon.connect() as client:
        assert client.request(f"/head/{size}").status == status


def test_a_client_that_reads_a_byte_at_a_time(daemon: Daemon) -> None:
    closed = 'connections_closed_total{why="unread"'
    before, held = metric(daemon, closed), memory(daemon)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(LATE)
        client.connect(("127.0.0.1", daemon.port))
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        deadline = time.monotonic() + LATE
        while metric(daemon, closed) == before:
            assert time.monotonic() < deadline
            with suppress(ConnectionError):
                client.recv(1)
            time.sleep(0.1)
    assert memory(daemon) - held < 16 << 20


def test_an_upload_that_drips(daemon: Daemon) -> None:
    closed = 'connections_closed_total{why="slow_body"'
    before = metric(daemon, closed)
    with daemon.connect() as client:
        client.send(b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        client.send(b"x" * (BODY + 1000))
        deadline = time.monotonic() + LATE
        while metric(daemon, closed) == before:
            assert time.monotonic() < deadline
            with suppress(ConnectionError):
                client.send(b"x")
            time.sleep(0.1)


@pytest.mark.parametrize(
    ("kind", "family", "why"),
    [
        ("short", "settlements_total", 'outcome="used"'),
        ("long", "reservations_kept_total", 'why="body_too_large"'),
        ("bomb", "reservations_kept_total", 'why="compressed"'),
    ],
)
def test_answers_whose_usage_is_read(daemon: Daemon, kind: str, family: str, why: str) -> None:
    name = f"{family}{{{why}"
    before, held = metric(daemon, name), memory(daemon)
    body = json.dumps({"model": "m", "messages": [], "max_tokens": 5}).encode()
    with daemon.connect() as client:
        path = f"/chat/{kind}"
        answer: Any = client.request(path, {"X-API-Key": "a"}, method="POST", body=body)
    assert answer.status == 200
    if kind == "bomb":
        assert len(gzip.decompress(answer.body)) == BOMB
    wait_for(lambda: metric(daemon, name) == before + 1, LATE, "it is settled")
    assert memory(daemon) - held < 16 << 20
