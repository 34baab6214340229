"""Decision records of the running daemon (§19), and what must never be in them."""

import base64
import json
import re
from collections.abc import Callable
from typing import Any

Daemon = Any
"""The `Daemon` of conftest.py."""
Serve = Callable[..., Daemon]
MakePolicy = Callable[..., dict[str, Any]]
Wait = Callable[..., None]

KEY = "canary-key-9f31"
CLAIMS = base64.urlsafe_b64encode(json.dumps({"sub": "s", "org": "o1"}).encode()).rstrip(b"=")
TOKEN = f"eyJcanary.{CLAIMS.decode()}.canarysig"
QUERY = "token=canary-query"


def records(daemon: Daemon) -> list[dict[str, Any]]:
    lines = daemon.said().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def metric(daemon: Daemon, name: str) -> float:
    with daemon.connect() as connection:
        text = connection.request("/metrics").body.decode()
    return sum(
        float(x) for x in re.findall(rf"^fairvisor_{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    )


def bundle(policy: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"bundle_version": 1, "policies": [policy], **more}


def test_rejects_are_recorded_and_allows_are_not(
    serve: Serve,
    bucket_policy: MakePolicy,
    wait_until: Wait,
) -> None:
    daemon = serve(bundle(bucket_policy("p", "/", "header:x-user", 0.01, 2)), worker_processes=2)
    statuses = [daemon.decide(f"/a/{n}?{QUERY}", {"X-User": "u1"}).status for n in range(5)]
    assert statuses == [200, 200, 429, 429, 429]
    wait_until(lambda: len(records(daemon)) == 3, 10.0, "three records")
    found = {record["path"] for record in records(daemon)}
    assert found == {"/a/2", "/a/3", "/a/4"}
    for record in records(daemon):
        assert record["reason"] == "rate_limit_exceeded"
        assert record["descriptors"] == {"header:x-user": "u1"}
        assert record["latency_us"] > 0
    assert metric(daemon, "handler_invocations_total") == 5
    assert metric(daemon, "limiter_result_total") == 5
    assert metric(daemon, "records_dropped_total") == 0


def test_at_debug_allows_are_recorded_too(
    serve: Serve,
    bucket_policy: MakePolicy,
    wait_until: Wait,
) -> None:
    daemon = serve(bundle(bucket_policy("p", "/a/", "ip:address", 1, 9)), log_level="debug")
    daemon.decide("/a/x")
    daemon.decide("/b")
    wait_until(lambda: len(records(daemon)) == 2, 10.0, "two records")
    assert {each["reason"] for each in records(daemon)} == {
        "all_rules_passed",
        "no_matching_policy",
    }


def test_the_last_records_are_written_on_the_way_out(
    serve: Serve,
    bucket_policy: MakePolicy,
) -> None:
    daemon = serve(bundle(bucket_policy("p", "/", "ip:address", 0.01, 1)))
    with daemon.connect() as connection:
        for _ in range(51):
            connection.request("/v1/decision/x")
    assert daemon.stop() == 0
    assert len(records(daemon)) == 50


def test_canaries_are_in_no_record_log_or_metric(
    serve: Serve,
    wait_until: Wait,
) -> None:
    keys = ["header:authorization", "header:x-api-key", "query:token", "header:cookie"]
    config = {"tokens_per_second": 0.01, "burst": 1}
    rules = [
        {"name": f"r{n}", "limit_keys": [key], "algorithm": "token_bucket"}
        | {"algorithm_config": config}
        for n, key in enumerate(keys)
    ]
    policy = {"id": "p", "spec": {"selector": {"pathPrefix": "/"}, "rules": rules}}
    switch = {"scope_key": "header:x-api-key", "scope_value": KEY, "reason": "leaked"}
    document = bundle(policy, kill_switches=[{**switch, "route": "/off"}])
    daemon = serve(document, log_level="debug", worker_processes=2)
    secrets = {
        "Authorization": f"Bearer {TOKEN}",
        "X-API-Key": KEY,
        "Cookie": "sid=canary-cookie",
        "Proxy-Authorization": "Basic canary",
    }
    for path in ("/a", "/a", "/a", "/off"):
        daemon.decide(f"{path}?{QUERY}", secrets)
    with daemon.connect() as connection:
        connection.request("/v1/settle", method="POST", body=b'{"reservation": "canary"}')
    wait_until(lambda: len(records(daemon)) == 4, 10.0, "four records")
    with daemon.connect() as connection:
        metrics = connection.request("/metrics").body.decode()
    assert "canary" not in daemon.said()
    assert "canary" not in metrics
    assert KEY not in daemon.said() + metrics
    rejects = [each for each in records(daemon) if each["action"] == "reject"]
    assert all(each["descriptors"] for each in rejects)
    assert {each["kill_switch_reason"] for each in rejects} == {None, "leaked"}
