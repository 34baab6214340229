"""A gRPC client in Envoy's place, and the bundle that it asks about."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest, RateLimitResponse

from tests.e2e.conftest import Daemon, bucket

SECONDS = 30.0
SLOW = 0.0001
DELAY_MS = 600
LONG_DELAY_MS = 25_000
OK = RateLimitResponse.OK
OVER = RateLimitResponse.OVER_LIMIT
PREFER = (("x-fairvisor-prefer", "delay-header"),)
CHECK = "/envoy.service.auth.v3.Authorization/Check"
SHOULD_RATE_LIMIT = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
Entries = list[tuple[str, str]]


def ruled(
    name: str, algorithm: str, keys: list[str], config: object, **rule: object
) -> dict[str, Any]:
    whole = {
        "name": "r",
        "limit_keys": keys,
        "algorithm": algorithm,
        "algorithm_config": config,
        **rule,
    }
    return {"id": name, "spec": {"selector": {"pathPrefix": f"/{name}/"}, "rules": [whole]}}


def delayed(name: str, milliseconds: int) -> dict[str, Any]:
    stages = [
        {"threshold_percent": 1, "action": "throttle", "delay_ms": milliseconds},
        {"threshold_percent": 100, "action": "reject"},
    ]
    config = {"budget": 100, "period": "1d", "staged_actions": stages}
    return ruled(name, "cost_based", ["header:x-key"], config)


HITS = {"tokens_per_second": SLOW, "burst": 10, "cost_source": "header:hits_addend"}
POLICIES = [
    bucket("few", "/few/", "header:x-key", SLOW, 2),
    bucket("addresses", "/addresses/", "ip:address", SLOW, 1),
    bucket("edge-user", "/edge/user", "header:user", SLOW, 3),
    ruled("edge", "token_bucket", ["header:user", "header:plan"], HITS),
    ruled("windows", "sliding_window", ["header:x-key"], {"limit": 5, "window_seconds": 3600}),
    delayed("throttled", DELAY_MS),
    delayed("held", LONG_DELAY_MS),
    ruled(
        "llm",
        "token_bucket_llm",
        ["header:x-key"],
        {"tokens_per_minute": 60, "burst_tokens": 10_000, "default_max_completion": 1000},
    ),
]
POLICIES[2]["spec"]["selector"] = {"pathExact": "/edge/user"}
BUNDLE = {"bundle_version": 1, "policies": POLICIES}


class Caller:
    """A gRPC client of one daemon."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self._check = channel.unary_unary(
            CHECK, CheckRequest.SerializeToString, CheckResponse.FromString
        )
        self._limit = channel.unary_unary(
            SHOULD_RATE_LIMIT, RateLimitRequest.SerializeToString, RateLimitResponse.FromString
        )

    def check(
        self,
        path: str,
        headers: dict[str, str] | None = None,
        *,
        source: str = "192.0.2.7",
        body: bytes = b"",
        metadata: Sequence[tuple[str, str]] | None = None,
    ) -> CheckResponse:
        return self._check(
            question(path, headers, source, body),
            timeout=SECONDS,
            metadata=metadata,
            wait_for_ready=True,
        )

    def status(
        self, path: str, headers: dict[str, str] | None = None, *, source: str = "192.0.2.7"
    ) -> int:
        answer = self.check(path, headers, source=source)
        return answer.denied_response.status.code if answer.status.code else 200

    def limit(
        self, *descriptors: Entries, domain: str = "edge", hits: int = 0, own: int | None = None
    ) -> RateLimitResponse:
        asked = RateLimitRequest(domain=domain, hits_addend=hits)
        for entries in descriptors:
            found = asked.descriptors.add()
            for key, value in entries:
                found.entries.add(key=key, value=value)
            if own is not None:
                found.hits_addend.value = own
        return self._limit(asked, timeout=SECONDS, wait_for_ready=True)

    def raw(self, method: str, message: bytes) -> bytes:
        return self.channel.unary_unary(method)(message, timeout=SECONDS, wait_for_ready=True)


def question(
    path: str, headers: dict[str, str] | None = None, source: str = "192.0.2.7", body: bytes = b""
) -> CheckRequest:
    asked = CheckRequest()
    asked.attributes.source.address.socket_address.address = source
    http = asked.attributes.request.http
    http.method, http.path, http.host, http.raw_body = "POST", path, "a.test", body
    http.headers.update(headers or {})
    return asked


@contextmanager
def calling(address: str, **options: int) -> Iterator[Caller]:
    named = [(name.replace("_", "."), value) for name, value in options.items()]
    with grpc.insecure_channel(address, options=named) as channel:
        yield Caller(channel)


def fields(options: Iterable[HeaderValueOption]) -> dict[str, str]:
    return {each.header.key.lower(): each.header.value for each in options}


def left(answer: RateLimitResponse, index: int = 0) -> int:
    return answer.statuses[index].limit_remaining


def port_of(daemon: Daemon) -> int:
    """Return the port of a daemon whose FAIRVISOR_ENVOY_LISTEN is 127.0.0.1:0."""
    return int(daemon.said().partition(" (gRPC)")[0].rpartition(":")[2])


def failure(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code: grpc.StatusCode = caught.value.code()  # type: ignore[attr-defined]  # a call, too
    return code
