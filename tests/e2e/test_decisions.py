"""What a client sees over the daemon's sockets (behaviour §4, §7, §8, §9)."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

Daemon = Any
"""The `Daemon` of conftest.py."""

SLOW = 0.0001
"""Tokens per second; no test lives long enough for one."""


@pytest.fixture(name="daemon", scope="module")
def _daemon(serve_all: Callable[..., Daemon], bucket_policy: Callable[..., object]) -> Daemon:
    policies = [
        bucket_policy("by-key", "/key/", "header:x-api-key", SLOW, 10),
        bucket_policy("by-address", "/ip/", "ip:address", SLOW, 1),
        bucket_policy("by-host", "/host/", "header:x-api-key", SLOW, 1),
        bucket_policy("post-only", "/post/", "header:x-api-key", SLOW, 1),
    ]
    policies[2]["spec"]["selector"]["hosts"] = ["api.example"]  # type: ignore[index]
    policies[3]["spec"]["selector"]["methods"] = ["POST"]  # type: ignore[index]
    bundle = {"bundle_version": 7, "policies": policies}
    return serve_all(bundle, unix=True, worker_processes=2, shards=3)


@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_ten_pass_and_the_others_are_told_why_and_when(daemon: Daemon, way: str) -> None:
    headers = {"X-Original-URI": "/key/a?b", "X-API-Key": f"quick-{way}"}
    with daemon.connect(way) as connection:
        answers = [connection.request(headers=headers) for _ in range(12)]
    assert [answer.status for answer in answers] == [200] * 10 + [429] * 2
    allowed = answers[0].headers
    assert {name: allowed[name] for name in allowed if name.startswith("ratelimit")} == {
        "ratelimit-limit": "10",
        "ratelimit-remaining": "9",
        "ratelimit-reset": "1",
        "ratelimit": '"by-key";r=9;t=1',
        "ratelimit-policy": '"by-key";q=10;w=100000',
    }
    refused = answers[10]
    assert refused.headers["x-fairvisor-reason"] == "rate_limit_exceeded"
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["ratelimit-remaining"] == "0"
    assert refused.headers["ratelimit-limit"] == "10"
    assert json.loads(refused.body) == {"error": "rate_limit_exceeded"}


@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_health(daemon: Daemon, way: str) -> None:
    with daemon.connect(way) as connection:
        live = connection.request("/livez")
        ready = connection.request("/readyz?verbose")
        head = connection.request("/livez", method="HEAD")
        assert connection.request("/livez").body == b"ok"
    assert (live.status, live.body) == (200, b"ok")
    assert (head.status, head.headers["content-length"], head.body) == (200, "2", b"")
    document = json.loads(ready.body)
    assert ready.status == 200
    assert set(document) == {"status", "policy_version", "policy_hash", "last_config_update"}
    assert (document["status"], document["policy_version"]) == ("ok", 7)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", document["policy_hash"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["last_config_update"])


@pytest.mark.parametrize(
    "path", ["/", "/v1/decisions", "/v1", "/livez/", "/v2/decision", "/metric"]
)
def test_an_unknown_path_is_404(daemon: Daemon, path: str) -> None:
    with daemon.connect() as connection:
        assert connection.request(path).status == 404


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
def test_a_wrong_method_is_405(daemon: Daemon, path: str, method: str) -> None:
    with daemon.connect() as connection:
        answer = connection.request(path, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_settle_is_for_post(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        assert connection.request("/v1/settle").status == 405
        assert connection.request("/v1/settle", method="POST", body=b"{}").status == 400


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"]
)
def test_any_method_may_ask(daemon: Daemon, method: str) -> None:
    headers = {"X-Original-URI": "/key/m", "X-API-Key": f"method-{method}"}
    with daemon.connect() as connection:
        statuses = [connection.request(headers=headers, method=method) for _ in range(11)]
        assert [answer.status for answer in statuses] == [200] * 10 + [429]
        body = statuses[-1].body
        assert connection.request("/livez").body == b"ok"  # nothing of the refusal is left over
    assert (body == b"") == (method == "HEAD")


def last_of_two(daemon: Daemon, *requests: tuple[str, dict[str, str]], method: str = "GET") -> int:
    """Return the status of the second request; policies with a burst of 1 count the first."""
    with daemon.connect() as connection:
        statuses = [
            connection.request(target, headers, method=method).status
            for target, headers in requests
        ]
    assert statuses[0] == 200
    return int(statuses[-1])


def test_the_path_after_the_endpoint_is_the_original_one(daemon: Daemon) -> None:
    key = {"X-Forwarded-For": "198.51.100.1"}
    assert last_of_two(daemon, ("/v1/decision/ip/a?b=c", key), ("/v1/decision/ip/z", key)) == 429
    assert last_of_two(daemon, ("/v1/decision/other/a", key), ("/v1/decision/other/a", key)) == 200


def test_an_original_uri_goes_before_a_forwarded_one_and_before_the_path(daemon: Daemon) -> None:
    address = {"X-Forwarded-For": "198.51.100.2"}
    forwarded = {**address, "X-Forwarded-Uri": "/ip/f"}
    assert last_of_two(daemon, ("/v1/decision", forwarded), ("/v1/decision/x", forwarded)) == 429
    original = {**forwarded, "X-Original-URI": "/free"}
    assert last_of_two(daemon, ("/v1/decision/ip/a", original), ("/v1/decision", original)) == 200


def test_the_original_method(daemon: Daemon) -> None:
    ask = {"X-Original-URI": "/post/", "X-API-Key": "m1", "X-Original-Method": "POST"}
    assert last_of_two(daemon, ("/v1/decision", ask), ("/v1/decision", ask)) == 429
    ask = {"X-Original-URI": "/post/", "X-API-Key": "m2", "X-Forwarded-Method": "POST"}
    assert last_of_two(daemon, ("/v1/decision", ask), ("/v1/decision", ask)) == 429
    ask = {**ask, "X-API-Key": "m3", "X-Original-Method": "GET"}
    assert last_of_two(daemon, ("/v1/decision", ask), ("/v1/decision", ask), method="POST") == 200


def test_the_original_host(daemon: Daemon) -> None:
    ask = {"X-Original-URI": "/host/", "X-API-Key": "h1", "X-Original-Host": "API.example:443"}
    assert last_of_two(daemon, ("/v1/decision", ask), ("/v1/decision", ask)) == 429
    ask = {"X-Original-URI": "/host/", "X-API-Key": "h2", "X-Forwarded-Host": "api.example"}
    assert last_of_two(daemon, ("/v1/decision", ask), ("/v1/decision", ask)) == 429
    ask = {"X-Original-URI": "/host/", "X-API-Key": "h3"}
    assert last_of_two(daemon, ("/v1/decision", ask), ("/v1/decision", ask)) == 200
    url = "http://api.example/v1/decision/host/x"
    ask = {"X-API-Key": "h4"}
    assert last_of_two(daemon, (url, ask), (url, ask)) == 429


def test_the_address_behind_trusted_proxies(daemon: Daemon) -> None:
    def ask(forwarded: str) -> tuple[str, dict[str, str]]:
        return "/v1/decision", {"X-Original-URI": "/ip/", "X-Forwarded-For": forwarded}

    first = ask("203.0.113.9, 198.51.100.7, 127.0.0.1")
    assert last_of_two(daemon, first, ask("198.51.100.7:4711")) == 429
    assert last_of_two(daemon, ask("203.0.113.9"), ask("203.0.113.9")) == 429


def test_forwarded_lines_are_joined(daemon: Daemon) -> None:
    lines = b"X-Original-URI: /ip/\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 198.51.100.8\r\n"
    with daemon.connect() as connection:
        connection.send(b"GET /v1/decision HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
        assert connection.answer().status == 200
    answer = daemon.decide("/ip/", {"X-Forwarded-For": "198.51.100.8"})
    assert answer.status == 429


def test_underscores_do_not_get_beside_the_address_that_a_gateway_names(daemon: Daemon) -> None:
    for last, status in ((1, 200), (2, 429)):
        lines = b"X-Forwarded-For: 198.51.100.77\r\nX_Forwarded_For: 198.51.100.%d\r\n" % last
        with daemon.connect() as connection:
            head = b"GET /v1/decision HTTP/1.1\r\nHost: a\r\nX-Original-URI: /ip/\r\n"
            connection.send(head + lines + b"\r\n")
            assert connection.answer().status == status


def test_white_space_behind_a_key_does_not_make_another_key(daemon: Daemon) -> None:
    answers = [
        daemon.decide("/key/", {"X-API-Key": "blank" + " " * count}).status for count in range(11)
    ]
    assert answers == [200] * 10 + [429]


def test_an_untrusted_peer_speaks_for_nobody_but_itself(
    serve: Callable[..., Daemon], bucket_policy: Callable[..., object]
) -> None:
    bundle = {"bundle_version": 1, "policies": [bucket_policy("p", "/ip/", "ip:address", SLOW, 2)]}
    daemon = serve(bundle, trusted_proxies="192.0.2.0/24", unix=True)
    with daemon.connect() as connection:
        forged = {"X-Original-URI": "/ip/x", "X-Forwarded-For": "198.51.100.1"}
        assert [connection.request(headers=forged).status for _ in range(4)] == [200] * 4
        statuses = [
            connection.request("/v1/decision/ip/a", {"X-Forwarded-For": f"198.51.100.{n}"}).status
            for n in range(4)
        ]
        assert statuses == [200, 200, 429, 429]
    with daemon.connect("unix") as connection:  # always trusted
        statuses = [connection.request(headers=forged).status for _ in range(3)]
        assert statuses == [200, 200, 429]
