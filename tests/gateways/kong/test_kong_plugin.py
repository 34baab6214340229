"""The Kong plugin with the real daemon and a real nginx around it (behaviour §5.4, §20)."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.gateways.kong.stage import BUNDLE, Gate, Serve, gateway

CONNECTED = "03"
"""The state in /proc/net/unix."""


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


def connections(path: str) -> set[str]:
    """Return the inodes of the daemon's ends of connections over a socket."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return {row[6] for row in rows if row[-1] == path and row[5] == CONNECTED}


def test_connections_to_the_daemon_are_kept(gate: Gate) -> None:
    ask, _, daemon = gate
    seen = []
    for _ in range(2):
        for _ in range(20):
            assert ask("/elsewhere", {"X-Mode": "echo"})[0] == 200
        seen.append(connections(daemon.unix))
    assert seen[0] & seen[1]


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
