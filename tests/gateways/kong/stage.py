"""The plugin between a client and a provider, with a bundle that has a policy for each test."""

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.gateways.kong.kong_nginx import kong
from tests.gateways.site import free_port
from tests.upstreams.llm import Upstream

Serve = Callable[..., Any]
Reply = tuple[int, dict[str, str], bytes]
Gate = tuple[Callable[..., Reply], Any, Any]
"""Ask through the gateway; the backend behind it; the daemon beside it."""

GENEROUS = {"connect_timeout": 5000, "send_timeout": 5000, "read_timeout": 10_000}
"""A loaded machine is no outage."""

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
