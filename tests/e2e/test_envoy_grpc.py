"""Envoy's two gRPC services, asked by a gRPC client: what Envoy itself does not try."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest, RateLimitResponse

from tests.e2e.conftest import Daemon, Serve
from tests.e2e.envoy_caller import (
    BUNDLE,
    CHECK,
    DELAY_MS,
    LONG_DELAY_MS,
    OK,
    OVER,
    PREFER,
    SECONDS,
    SHOULD_RATE_LIMIT,
    Caller,
    calling,
    failure,
    fields,
    left,
    port_of,
    question,
)


@pytest.fixture(name="daemon", scope="module")
def _daemon(serve_all: Serve) -> Daemon:
    return serve_all(
        BUNDLE,
        envoy_listen="127.0.0.1:0",
        trusted_proxies="127.0.0.1/32,10.0.0.0/8",
        max_body_bytes="1m",
        shards=2,
    )


@pytest.fixture(name="caller", scope="module")
def _caller(daemon: Daemon) -> Iterator[Caller]:
    with calling(f"127.0.0.1:{port_of(daemon)}") as caller:
        yield caller


def test_an_allow_and_a_refusal(caller: Caller) -> None:
    first, _, refused = (caller.check("/few/x?a=1", {"x-key": "both"}) for _ in range(3))
    assert first.status.code == 0
    assert fields(first.ok_response.response_headers_to_add)["ratelimit"] == '"few";r=1;t=1'
    denied = refused.denied_response
    assert denied.status.code == 429
    assert json.loads(denied.body) == {"error": "rate_limit_exceeded"}
    told = fields(denied.headers)
    assert told["ratelimit-limit"] == "2"
    assert int(told["retry-after"]) >= 1
    assert told["x-fairvisor-reason"] == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("sources", "spoofs", "statuses"),
    [
        (["192.0.2.1"] * 2, ["1.1.1.1", "1.1.1.2"], [200, 429]),
        (["192.0.2.2", "192.0.2.3"], ["1.1.1.1", "1.1.1.1"], [200, 200]),
        (["10.0.0.1"] * 2, ["192.0.2.4", "192.0.2.5"], [200, 200]),
        (["10.0.0.1", "10.0.0.2"], ["192.0.2.6", "192.0.2.6"], [200, 429]),
        (["", "", ""], ["192.0.2.8"] * 3, [200, 200, 200]),  # nobody's: the rule is skipped
    ],
)
def test_the_client_is_who_connected_or_whom_a_trusted_one_names(
    caller: Caller, sources: list[str], spoofs: list[str], statuses: list[int]
) -> None:
    seen = [
        caller.status("/addresses/x", {"x-forwarded-for": spoof}, source=source)
        for source, spoof in zip(sources, spoofs, strict=True)
    ]
    assert seen == statuses


def test_a_body_is_charged_by_and_its_reservation_settled_over_http(
    caller: Caller, daemon: Daemon
) -> None:
    def ask(tokens: int) -> CheckResponse:
        body = json.dumps({"model": "m", "max_tokens": tokens, "messages": []}).encode()
        return caller.check("/llm/x", {"x-key": "llm"}, body=body)

    refused = fields(ask(10_001).denied_response.headers)
    assert refused["x-fairvisor-reason"] == "tpm_exceeded"
    allowed = ask(9_000).ok_response
    told = fields(allowed.response_headers_to_add)
    assert int(told["ratelimit-remaining"]) <= 1_000
    assert "x-fairvisor-reservation" not in told
    used = {"usage": {"prompt_tokens": 40, "completion_tokens": 60}}
    settled = {"reservation": fields(allowed.headers)["x-fairvisor-reservation"], **used}
    with daemon.connect() as connection:
        statuses = [
            connection.request(
                "/v1/settle", method="POST", body=json.dumps(settled).encode()
            ).status
            for _ in range(2)
        ]
    assert statuses == [204, 409]
    told = fields(ask(1).ok_response.response_headers_to_add)
    assert int(told["ratelimit-remaining"]) > 9_000


def test_a_throttled_call_is_held_back_unless_its_caller_waits(caller: Caller) -> None:
    key = {"x-key": "throttled", "x-fairvisor-prefer": "delay-header"}  # of the client: no matter
    began = time.monotonic()
    assert caller.status("/throttled/x", key) == 200
    assert time.monotonic() - began >= DELAY_MS / 1000 * 0.95
    answer = caller.check("/held/x", {"x-key": "held"}, metadata=PREFER)
    assert fields(answer.ok_response.headers) == {"x-fairvisor-delay-ms": str(LONG_DELAY_MS)}


def test_a_head_beyond_the_bounds_is_431(caller: Caller) -> None:
    assert caller.status("/few/x", {f"x-{n}": "a" for n in range(129)}) == 431
    assert caller.status("/few/x", {"x-long": "a" * 40_000}) == 431
    limited = caller.limit([("user", "a" * 40_000)])
    assert (limited.overall_code, len(limited.statuses)) == (OVER, 0)


@pytest.mark.parametrize("method", [CHECK, SHOULD_RATE_LIMIT])
def test_what_is_no_message_and_what_is_too_large_harm_nobody(caller: Caller, method: str) -> None:
    garbage = failure(lambda: caller.raw(method, b"\xff\xff not one"))
    assert garbage is grpc.StatusCode.INVALID_ARGUMENT
    large = question("/few/x", body=b"x" * (3 << 20)).SerializeToString()
    assert failure(lambda: caller.raw(method, large)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    unknown = failure(lambda: caller.raw("/envoy.service.auth.v3.Authorization/Other", b""))
    assert unknown is grpc.StatusCode.UNIMPLEMENTED
    assert caller.status("/none", {}) == 200


def test_bytes_that_are_no_grpc_harm_nobody(daemon: Daemon, caller: Caller) -> None:
    for said in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff"):
        with socket.create_connection(("127.0.0.1", port_of(daemon)), SECONDS) as sock:
            sock.sendall(said)
    assert caller.status("/none", {}) == 200


def test_an_empty_question_is_decided(caller: Caller) -> None:
    answer = CheckResponse.FromString(caller.raw(CHECK, b""))
    assert answer.status.code == 0


def test_limits_are_exact_over_parallel_callers(daemon: Daemon) -> None:
    gate = threading.Barrier(8)

    def load(_: int) -> int:
        with calling(f"127.0.0.1:{port_of(daemon)}", grpc_use_local_subchannel_pool=1) as caller:
            gate.wait(SECONDS)
            answers = [caller.limit([("user", "parallel")]) for _ in range(5)]
        return sum(answer.overall_code == OK for answer in answers)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(load, range(8))) == 3


def test_descriptors_have_a_status_each_and_fields_of_the_tightest(caller: Caller) -> None:
    request = [("path", "/windows/x"), ("method", "PUT"), ("x-key", "statuses")]
    answer = caller.limit([("user", "statuses")], request, [("nobody", "cares")])
    assert answer.overall_code == OK
    assert [left(answer, index) for index in range(3)] == [2, 4, 0]
    assert not answer.statuses[2].HasField("current_limit")
    hour = answer.statuses[1].current_limit
    assert (hour.requests_per_unit, hour.unit) == (5, RateLimitResponse.RateLimit.HOUR)
    assert 0 < answer.statuses[1].duration_until_reset.seconds <= 3600
    told = {each.key: each.value for each in answer.response_headers_to_add}
    assert told["RateLimit"] == '"edge-user";r=2;t=1'


def test_a_refused_descriptor_costs_the_others_nothing(caller: Caller) -> None:
    user = [("user", "undone")]
    full = [("user", "undone"), ("plan", "free")]
    assert caller.limit(full, hits=10).overall_code == OK
    for _ in range(5):
        answer = caller.limit(user, full)
        assert answer.overall_code == OVER
        assert [each.code for each in answer.statuses] == [OK, OVER]
        assert answer.raw_body == b'{"error":"rate_limit_exceeded"}'
    assert left(caller.limit(user)) == 2


def test_hits_are_the_cost_of_rules_that_say_so(caller: Caller) -> None:
    plan = [("user", "hits"), ("plan", "free")]
    assert left(caller.limit(plan)) == 9
    assert left(caller.limit(plan, hits=4)) == 5
    assert left(caller.limit(plan, hits=9, own=2)) == 3
    assert caller.limit(plan, hits=4).overall_code == OVER
    for _ in range(3):
        assert caller.limit(plan, hits=1, own=0).overall_code == OK  # asks, charges nothing
    assert left(caller.limit(plan)) == 2


@pytest.mark.parametrize(
    "asked",
    [RateLimitRequest(), RateLimitRequest(domain="edge")],
    ids=["nothing", "no-descriptor"],
)
def test_a_question_about_nothing_is_an_argument_that_is_invalid(
    caller: Caller, asked: RateLimitRequest
) -> None:
    sent = asked.SerializeToString()
    assert failure(lambda: caller.raw(SHOULD_RATE_LIMIT, sent)) is (
        grpc.StatusCode.INVALID_ARGUMENT
    )
