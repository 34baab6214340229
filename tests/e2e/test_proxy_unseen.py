"""Requests that no policy sees take a shorter way: nothing of them may be different for that."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.upstreams.faulty import Faulty

SEEN = {
    "name": "requests",
    "limit_keys": ["ip:address"],
    "algorithm": "token_bucket",
    "algorithm_config": {"tokens_per_second": 10**6, "burst": 10**6},
}
BUNDLE = {
    "bundle_version": 1,
    "policies": [{"id": "p", "spec": {"selector": {"pathPrefix": "/seen/"}, "rules": [SEEN]}}],
}
PLANS = [
    "", "error", "refuse", "reset", "short", "text", "big", "gzip", "old", "early", "heads",
    "garbage", "drip", "bill",
]  # fmt: skip
OURS = (b"RateLimit", b"X-Fairvisor-Retry")


@pytest.fixture(name="upstream")
def _upstream() -> Iterator[Faulty]:
    with Faulty() as upstream:
        yield upstream


@pytest.fixture(name="daemon")
def _daemon(serve: Callable[..., Any], upstream: Faulty) -> Any:  # noqa: ANN401 - the fixture's
    return serve(BUNDLE, mode="reverse_proxy", backend_url=upstream.url)


def asked(path: str, plan: str, *, stream: bool = False, method: str = "POST") -> bytes:
    body = json.dumps({"stream": stream, "messages": []}) if method == "POST" else ""
    return (
        f"{method} {path}v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-Plan: {plan}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def unframed(body: bytes) -> bytes:
    """Return what is in chunks, and "…" if there is no last one: where they end is up to reads."""
    content = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        if not int(size, 16):
            return content
        content, body = content + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return content + "…".encode()


LAST = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def answered(daemon: Any, request: bytes) -> tuple[list[bytes], bytes]:  # noqa: ANN401
    """Return an answer's fields, but for ours, and its body."""
    with daemon.connect() as connection:
        connection.send(request + LAST)
        answer, _, last = connection.rest().rpartition(b"HTTP/1.1 200 OK\r\nContent-Type: text/pl")
    head, _, body = (answer or last).partition(b"\r\n\r\n")
    if b"Transfer-Encoding: chunked" in head:
        body = unframed(body)
    return sorted(line for line in head.split(b"\r\n") if not line.startswith(OURS)), body


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("stream", [False, True])
def test_every_answer_is_as_where_a_policy_looks_on(
    daemon: Any,  # noqa: ANN401 - the fixture's
    plan: str,
    *,
    stream: bool,
) -> None:
    seen = answered(daemon, asked("/seen/", plan, stream=stream))
    assert seen[0], plan
    for _ in range(2):  # the second time with what is remembered of its head
        fields, body = answered(daemon, asked("/free/", plan, stream=stream))
        assert fields == seen[0]
        # A reset may overtake what was sent before it.
        assert body == seen[1] or (plan == "reset" and body.endswith(seen[1][-3:]))


def bodies(daemon: Any, *requests: bytes) -> bytes:  # noqa: ANN401
    """Return all that is answered on one connection."""
    with daemon.connect() as connection:
        connection.send(b"".join(requests) + LAST)
        data: bytes = connection.rest()
        return data


def test_answers_to_pipelined_requests_keep_their_order(daemon: Any) -> None:  # noqa: ANN401
    data = bodies(daemon, *[asked("/free/", plan) for plan in ("text", "", "error")])
    assert data.count(b"HTTP/1.1 ") == 4
    assert data.index(b"tok tok") < data.index(b'"usage"') < data.index(b"upstream broke")


@pytest.mark.parametrize("plan", ["hang", "stall", "half"])
def test_an_upstream_hears_that_the_client_left(daemon: Any, upstream: Faulty, plan: str) -> None:  # noqa: ANN401
    with daemon.connect() as connection:
        connection.send(asked("/free/", plan, stream=plan == "stall"))
        assert upstream.arrived.acquire(timeout=20)
    assert upstream.left.acquire(timeout=20)


def test_an_upstream_that_is_not_there(serve: Callable[..., Any], tmp_path: Any) -> None:  # noqa: ANN401
    daemon = serve(BUNDLE, mode="reverse_proxy", backend_url=f"unix:{tmp_path / 'nobody'}")
    head, body = answered(daemon, asked("/free/", ""))
    assert b"HTTP/1.1 502 Bad Gateway" in head
    assert b"X-Fairvisor-Reason: upstream_unreachable" in head
    assert body == b'{"error":"upstream_unreachable"}'
    assert (head, body) == answered(daemon, asked("/seen/", ""))


def test_the_decision_is_counted(daemon: Any, wait_until: Callable[..., None]) -> None:  # noqa: ANN401
    for _ in range(3):
        bodies(daemon, asked("/free/", "error"))

    def counted() -> bool:
        with daemon.connect() as connection:
            text = connection.request("/metrics").body.decode()
        lines = [line for line in text.splitlines() if "no_matching_policy" in line]
        return any(line.endswith((" 3", " 3.0")) for line in lines)

    wait_until(counted, 10.0, "three decisions are counted")


def test_how_an_upstream_failed_is_told_once_and_counted(
    daemon: Any,  # noqa: ANN401 - the fixture's
    upstream: Faulty,
    wait_until: Callable[..., None],
) -> None:
    for plan in ("refuse", "refuse", "garbage"):
        fields, _ = answered(daemon, asked("/free/", plan))
        assert b"HTTP/1.1 502 Bad Gateway" in fields
    log = daemon.log.read_text()
    assert (
        log.count(f"upstream 127.0.0.1:{upstream.port} closed a connection without an answer") == 1
    )
    assert log.count("gave an answer that broke off, or that is none") == 1

    def counted() -> bool:
        with daemon.connect() as connection:
            text = connection.request("/metrics").body.decode()
        return (
            'fairvisor_upstream_failures_total{failure="unanswered"} 2.0' in text
            and 'fairvisor_upstream_failures_total{failure="broken"} 1.0' in text
        )

    wait_until(counted, 10.0, "the failures are counted")
