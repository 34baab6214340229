"""The Kong plugin with the real daemon and a real nginx around it (behaviour §5.4, §7.5, §20)."""

import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.gateways.kong.kong_nginx import kong
from tests.gateways.site import free_port
from tests.upstreams.llm import Upstream

Serve = Callable[..., Any]
Reply = tuple[int, dict[str, str], bytes]
Gate = tuple[Callable[..., Reply], Any, Any]
"""Ask through the gateway; the backend behind it; the daemon beside it."""

LLM = {
    "name": "tokens",
    "limit_keys": ["header:x-team"],
    "algorithm": "token_bucket_llm",
    "algorithm_config": {
        "tokens_per_minute": 1_000_000,
        "tokens_per_day": 1_000_000,
        "default_max_completion": 500,
    },
}


def policy(name: str, prefix: str, rule: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "spec": {"selector": {"pathPrefix": prefix}, "rules": [rule]}}


def bucket(key: str, burst: int, **more: object) -> dict[str, Any]:
    config = {"tokens_per_second": 0.001, "burst": burst}
    return {
        "name": "bucket", "limit_keys": [key], "algorithm": "token_bucket",
        "algorithm_config": config, **more,
    }  # fmt: skip


def slow(key: str) -> dict[str, Any]:
    return {
        "name": "budget",
        "limit_keys": [key],
        "algorithm": "cost_based",
        "algorithm_config": {
            "budget": 10,
            "period": "1d",
            "cost_key": "fixed",
            "fixed_cost": 1,
            "staged_actions": [
                {"threshold_percent": 1, "action": "throttle", "delay_ms": 400},
                {"threshold_percent": 100, "action": "reject"},
            ],
        },
    }


BUNDLE = {
    "bundle_version": 1,
    "policies": [
        policy("api", "/api/", bucket("header:x-api-key", 2)),
        policy("busy", "/busy/", bucket("header:x-api-key", 1, reject_status=503)),
        policy("ip", "/ip/", bucket("ip:address", 2)),
        policy("country", "/country/", bucket("ip:country", 1)),
        policy("slow", "/slow/", slow("header:x-api-key")),
        policy("llm", "/v1/", LLM),
        policy("gemini", "/v1beta/", LLM),
        policy("shared", "/shared/", bucket("header:x-api-key", 30)),
    ],
    "kill_switches": [
        {"scope_key": "header:x-api-key", "scope_value": "stolen", "route": "/api/items"}
    ],
}


@contextmanager
def gateway(
    daemon: Any,  # noqa: ANN401 - the fixture's
    **changes: object,
) -> Iterator[tuple[Callable[..., Reply], Upstream, Path]]:
    settings = {"socket": daemon.unix, "send_body": True, **GENEROUS, **changes}
    routes = {
        "/": settings,
        "/open/": {**settings, "on_failure": "open"},
        "/reads/": {**settings, "on_failure": "reads-open"},
    }
    port = free_port()
    with Upstream() as upstream, kong(routes, upstream.port, port, ["127.0.0.2"]) as log:

        def ask(
            uri: str,
            headers: dict[str, str] | None = None,
            method: str = "GET",
            body: bytes | str | None = None,
            source: str = "127.0.0.1",
        ) -> Reply:
            connection = http.client.HTTPConnection(
                "127.0.0.1", port, timeout=30, source_address=(source, 0)
            )
            try:
                connection.request(method, uri, body, headers or {})
                response = connection.getresponse()
                fields = {name.lower(): value for name, value in response.getheaders()}
                assert len(fields) == len(response.getheaders()), response.getheaders()
                return response.status, fields, response.read()
            finally:
                connection.close()

        yield ask, upstream, log


GENEROUS = {"connect_timeout": 5000, "send_timeout": 5000, "read_timeout": 10_000}
"""A loaded machine is no outage."""


@pytest.fixture(name="gate", scope="module")
def _gate(serve_all: Serve) -> Iterator[Gate]:
    daemon = serve_all(BUNDLE, unix=True, worker_processes=2, shards=2)
    with gateway(daemon) as (ask, upstream, _):
        yield ask, upstream, daemon


def test_an_allowed_request_reaches_the_backend_unchanged(gate: Gate) -> None:
    ask, upstream, _ = gate
    body = bytes(range(256)) * 8
    headers = {"X-Api-Key": "intact", "X-Mode": "echo", "Content-Type": "application/x-any"}
    status, fields, answer = ask("/api/a%20b?x=1&y=%2F", headers, "PUT", body)
    assert (status, answer) == (200, body)
    seen = upstream.seen[-1]
    assert (seen.method, seen.target, seen.body) == ("PUT", "/api/a%20b?x=1&y=%2F", body)
    assert fields["ratelimit"] == '"api";r=1;t=1'
    assert fields["ratelimit-limit"] == "2"  # the backend's own says 1
    assert fields["x-upstream"] == "yes"


def test_a_refusal_is_the_clients_with_all_its_headers(gate: Gate) -> None:
    ask, upstream, _ = gate
    for _ in range(2):
        assert ask("/api/x", {"X-Api-Key": "greedy", "X-Mode": "echo"})[0] == 200
    before = len(upstream.seen)
    status, fields, body = ask("/api/x", {"X-Api-Key": "greedy"})
    assert (status, body) == (429, b'{"error":"rate_limit_exceeded"}')
    assert fields["x-fairvisor-reason"] == "rate_limit_exceeded"
    assert int(fields["retry-after"]) >= 1
    assert fields["ratelimit-policy"] == '"api";q=2;w=2000'
    assert fields["content-type"] == "application/json"
    assert len(upstream.seen) == before
    ask("/busy/x", {"X-Api-Key": "greedy", "X-Mode": "echo"})
    status, fields, _ = ask("/busy/x", {"X-Api-Key": "greedy"})
    assert (status, fields["x-fairvisor-reason"]) == (503, "rate_limit_exceeded")


@pytest.mark.parametrize("uri", ["/api/items", "/api/items?x=1", "/api/./items", "/api/%69tems"])
def test_a_kill_switch_cannot_be_dodged(gate: Gate, uri: str) -> None:
    ask, _, _ = gate
    status, fields, _ = ask(uri, {"X-Api-Key": "stolen"})
    assert (status, fields["x-fairvisor-reason"]) == (429, "kill_switch_active")


SPOOFS = [
    {"X-Forwarded-For": "198.51.100.1"},
    {"X_Forwarded_For": "198.51.100.2"},
    {"x-forwarded_for": "198.51.100.3"},
    {"Forwarded": "for=198.51.100.4"},
    {"X-Original-URI": "/free"},
    {"X_Original_URI": "/free"},
    {"X-Original-Method": "OPTIONS", "X-Original-Host": "other"},
]


def test_a_client_cannot_pass_for_another(gate: Gate) -> None:
    ask, _, _ = gate
    codes = [ask("/ip/x", {**spoof, "X-Mode": "echo"})[0] for spoof in SPOOFS]
    assert codes == [200] * 2 + [429] * (len(SPOOFS) - 2)


def test_a_trusted_proxy_names_the_client_and_where_it_is(gate: Gate) -> None:
    ask, _, _ = gate
    for client in ("198.51.100.7", "198.51.100.8"):
        headers = {"X-Forwarded-For": f"6.6.6.6, {client}", "X-Mode": "echo"}
        assert [ask("/ip/x", headers, source="127.0.0.2")[0] for _ in range(3)] == [200, 200, 429]
    there = {"X-Country-Code": "CH", "X-Mode": "echo"}
    assert [ask("/country/x", there, source="127.0.0.2")[0] for _ in range(2)] == [200, 429]
    assert [ask("/country/x", there)[0] for _ in range(2)] == [200, 200]  # nobody's word


def test_a_throttled_request_waits_in_the_gateway(gate: Gate) -> None:
    ask, _, _ = gate
    started = time.monotonic()
    status, fields, _ = ask("/slow/x", {"X-Api-Key": "a", "X-Mode": "echo"})
    assert time.monotonic() - started >= 0.4
    assert (status, fields["x-fairvisor-warning"]) == (200, "budget_throttle")
    assert "x-fairvisor-delay-ms" not in fields


def test_limits_are_exact_over_parallel_clients(gate: Gate) -> None:
    ask, _, _ = gate

    def one(number: int) -> int:
        return int(ask("/shared/x", {"X-Api-Key": f"k{number % 2}", "X-Mode": "echo"})[0])

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(one, range(100)))
    assert (codes.count(200), codes.count(429)) == (60, 40)


def test_a_header_too_many_is_no_way_around_a_limit(gate: Gate) -> None:
    ask, upstream, _ = gate
    before = len(upstream.seen)
    many = {f"X-{number}": "1" for number in range(200)}
    assert ask("/open/x", {"X-Api-Key": "m", **many})[0] == 431
    assert len(upstream.seen) == before


def left(ask: Callable[..., Reply], team: str) -> int:
    """Return what is left of a team's day, by asking for nothing that is answered."""
    headers = {"X-Team": team, "X-Mode": "error"}
    body = json.dumps({"max_tokens": 1, "messages": []})
    reply = ask("/v1/chat/completions", headers, "POST", body)
    return int(reply[1]["ratelimit-remaining"])


PATHS = [
    ("/v1/chat/completions", {"stream": True, "stream_options": {"include_usage": True}}),
    ("/v1/chat/completions", {}),
    ("/v1/messages", {"stream": True}),
    ("/v1/messages", {}),
    ("/v1/responses", {"stream": True}),
    ("/v1beta/models/gemini-pro:streamGenerateContent?alt=sse", {}),
    ("/v1beta/models/gemini-pro:streamGenerateContent", {}),
    ("/v1beta/models/gemini-pro:generateContent", {}),
]


@pytest.mark.parametrize(("path", "extra"), PATHS)
def test_what_the_answer_used_is_what_is_charged(
    gate: Gate, wait_until: Callable[..., None], path: str, extra: dict[str, Any]
) -> None:
    ask, upstream, daemon = gate
    prefix = "/v1beta/" if path.startswith("/v1beta/") else "/v1/"
    team = f"{path}{len(extra)}"
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **extra})
    headers = {"X-Team": team, "X-Tokens": "40", "Accept-Encoding": "gzip"}
    status, fields, answer = ask(path, headers, "POST", body)
    assert status == 200, answer
    assert "x-fairvisor-reservation" not in fields or fields["x-fairvisor-reservation"] == "forged"
    assert upstream.seen[-1].header("accept-encoding") == ""
    billed = upstream.seen[-1].billed
    assert billed >= 47 or extra.get("stream")

    def day() -> int:
        with daemon.connect() as connection:
            reply = connection.request(
                headers={"X-Original-URI": f"{prefix}probe", "X-Team": team}, method="GET"
            )
        return int(reply.headers["ratelimit-remaining"])

    # Each probe reserves 500 itself and is never settled.
    probes = 0

    def settled() -> bool:
        nonlocal probes
        probes += 1
        return day() == 1_000_000 - billed - 500 * probes

    wait_until(settled, 20.0, "settled by what was used")


def test_an_answer_that_failed_costs_nothing(gate: Gate, wait_until: Callable[..., None]) -> None:
    ask, _, _ = gate

    def restored() -> bool:
        return left(ask, "failing") > 1_000_000 - 20

    for _ in range(20):
        left(ask, "failing")
    wait_until(restored, 20.0, "given back")


def test_a_long_body_counts_by_its_length(gate: Gate) -> None:
    ask, upstream, _ = gate
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 2_000_000}]})
    headers = {"X-Team": "long", "X-Mode": "echo"}
    status, fields, _ = ask("/v1/chat/completions", headers, "POST", body)
    assert status == 200
    assert upstream.seen[-1].body == body.encode()
    assert int(fields["ratelimit-remaining"]) <= 500_000 - 500


def test_a_body_in_a_file_is_sent_too(gate: Gate) -> None:
    ask, _, _ = gate
    body = json.dumps({"max_tokens": 100_000, "messages": [{"content": "x" * 100_000}]})
    fields = ask("/v1/chat/completions", {"X-Team": "file", "X-Mode": "echo"}, "POST", body)[1]
    left_over = int(fields["ratelimit-remaining"])
    assert 1_000_000 - 100_000 - 30_000 < left_over < 1_000_000 - 100_000 - 20_000


def test_connections_to_the_daemon_are_kept(gate: Gate) -> None:
    ask, _, daemon = gate
    for _ in range(20):
        ask("/elsewhere", {"X-Mode": "echo"})
    with daemon.connect() as connection:
        text = connection.request("/metrics").body.decode()
    assert "fairvisor_decisions_total" in text
    links = Path("/proc/net/unix").read_text().count(daemon.unix)
    assert links <= 2 + 2 * 10  # two listeners' worth and a few kept connections of two workers


def test_while_the_daemon_is_away_each_route_has_its_way(serve: Serve) -> None:
    daemon = serve(BUNDLE, unix=True)
    with gateway(daemon) as (ask, upstream, log):
        echo = {"X-Mode": "echo", "X-Api-Key": "a"}
        assert ask("/api/x", echo)[0] == 200
        assert daemon.stop() == 0
        before = len(upstream.seen)
        status, fields, body = ask("/api/x", echo)
        assert (status, body) == (503, b'{"error":"service_unavailable"}')
        assert (fields["x-fairvisor-reason"], fields["retry-after"]) == ("service_unavailable", "1")
        assert len(upstream.seen) == before
        assert ask("/open/x", echo, "POST", b"{}")[0] == 200
        assert ask("/reads/x", echo)[0] == 200
        assert ask("/reads/x", echo, "POST", b"{}")[0] == 503
        assert "the request passes" in log.read_text()
        again = serve(BUNDLE, listen=f"127.0.0.1:0,unix:{daemon.unix}")
        assert ask("/api/x", echo)[0] == 200
        assert again.stop() == 0


def test_a_daemon_that_hangs_is_waited_for_only_so_long(serve: Serve) -> None:
    daemon = serve(BUNDLE, unix=True)
    with gateway(daemon, read_timeout=200) as (ask, _, _):
        assert ask("/api/x", {"X-Mode": "echo", "X-Api-Key": "a"})[0] == 200
        for pid in daemon.all_pids():
            os.kill(pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            assert ask("/api/x", {"X-Mode": "echo", "X-Api-Key": "a"})[0] == 503
            assert time.monotonic() - started < 15
        finally:
            for pid in daemon.all_pids():
                os.kill(pid, signal.SIGCONT)
