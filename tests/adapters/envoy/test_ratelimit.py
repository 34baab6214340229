"""Descriptors to requests, decisions to statuses (`envoy.service.ratelimit.v3`)."""

import pytest
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest, RateLimitResponse

from adapters.envoy import ratelimit
from adapters.envoy.ratelimit import Asked, TooLargeError, UnreadableError
from protocol.decision import Decision, Limit
from protocol.request import Request

OK = RateLimitResponse.OK
OVER = RateLimitResponse.OVER_LIMIT
Entries = list[tuple[str, str]]


def question(*descriptors: Entries, domain: str = "edge", hits: int = 0) -> RateLimitRequest:
    asked = RateLimitRequest(domain=domain, hits_addend=hits)
    for entries in descriptors:
        found = asked.descriptors.add()
        for key, value in entries:
            found.entries.add(key=key, value=value)
    return asked


def read(asked: RateLimitRequest) -> list[Asked]:
    return ratelimit.read(asked, "127.0.0.1", trusted=True, max_head=1000)


def one(*entries: tuple[str, str]) -> Request:
    (found,) = read(question(list(entries)))
    return found.request


def limit(policy: str, quota: int, remaining: int, window: int = 60) -> Limit:
    return Limit(policy_id=policy, quota=quota, remaining=remaining, window=window, reset=7)


def test_a_descriptor_with_a_path_is_a_request() -> None:
    request = one(
        ("path", "/a?x=1"),
        ("method", "POST"),
        ("host", "a.test"),
        ("remote_address", "192.0.2.7"),
        ("x-key", "k"),
        ("user_agent", "curl"),
    )
    assert (request.method, request.path, request.query) == ("POST", "/a", "x=1")
    assert request.host == "a.test"
    assert request.headers[b"x-forwarded-for"] == b"192.0.2.7"
    assert request.headers[b"x-key"] == b"k"
    assert request.headers[b"user-agent"] == b"curl"


def test_the_names_of_pseudo_headers_do_as_well() -> None:
    request = one((":path", "/a"), (":method", "PUT"), (":authority", "a.test"))
    assert (request.method, request.path, request.host) == ("PUT", "/a", "a.test")


@pytest.mark.parametrize(
    ("entries", "path"),
    [
        ([("user", "alice")], "/edge/user"),
        ([("user", "alice"), ("remote_address", "192.0.2.7")], "/edge/user/remote_address"),
        ([("remote_address", "192.0.2.7"), ("user", "alice")], "/edge/remote_address/user"),
        ([("generic_key", "slow"), ("generic_key", "other")], "/edge/generic_key"),
        ([("a/b c", "x")], "/edge/a%2Fb%20c"),
    ],
)
def test_any_other_descriptor_is_a_shape(entries: Entries, path: str) -> None:
    request = one(*entries)
    assert (request.method, request.path, request.query) == ("GET", path, "")
    assert request.host == "edge"
    key, value = entries[0]
    assert request.headers[ratelimit._NOT_IN_NAMES.sub("-", key).encode()] == value.encode()


def test_forwarded_for_counts_behind_who_connected_and_never_alone() -> None:
    spoof = ("x-forwarded-for", "1.1.1.1")
    assert b"x-forwarded-for" not in one(("user", "a"), spoof).headers
    headers = one(spoof, ("remote_address", "192.0.2.7")).headers
    assert headers[b"x-forwarded-for"] == b"1.1.1.1, 192.0.2.7"


def test_hits_are_of_the_question_or_of_the_descriptor() -> None:
    asked = question([("a", "1")], [("a", "2")], [("hits_addend", "9")], hits=3)
    asked.descriptors[1].hits_addend.value = 5
    asked.descriptors[2].hits_addend.value = 0
    found = [(each.request.headers[b"hits-addend"], each.charges) for each in read(asked)]
    assert found == [(b"3", True), (b"5", True), (b"1", False)]
    assert read(question([("a", "1")]))[0].request.headers[b"hits-addend"] == b"1"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (question([("a", "1")], domain=""), "no domain"),
        (question(), "1 to 64 descriptors"),
        (question(*[[("a", "1")]] * 65), "1 to 64 descriptors"),
        (question([]), "1 to 64 entries"),
        (question([("a", "1")] * 65), "1 to 64 entries"),
    ],
)
def test_what_says_nothing_or_too_much_is_refused(asked: RateLimitRequest, message: str) -> None:
    with pytest.raises(UnreadableError, match=message):
        read(asked)


def test_a_descriptor_larger_than_a_head_is_refused_whatever_the_failure_mode() -> None:
    assert len(read(question([("a", "b" * 900)], [("a", "b" * 900)]))) == 2
    for large in (
        question([("a", "b" * 1000)]),
        question([("a" * 1000, "b")]),
        question([("a", "b")], domain="d" * 1000),
        question([("a", "b")], [("a", "b" * 500), ("c", "b" * 500)]),
    ):
        with pytest.raises(TooLargeError):
            read(large)
    answer = ratelimit.write_too_large()
    assert answer.overall_code == OVER
    assert answer.raw_body == b'{"error":"request head too large"}'


def test_each_descriptor_has_its_status_and_the_tightest_is_told() -> None:
    decisions = [
        Decision(fields=limit("wide", 100, 90)),
        Decision(),
        Decision(fields=limit("tight", 10, 1, 3600), reservation="r1"),
    ]
    answer = ratelimit.write(decisions)
    assert answer.overall_code == OK
    assert [each.code for each in answer.statuses] == [OK] * 3
    last = answer.statuses[2]
    assert (last.current_limit.name, last.current_limit.requests_per_unit) == ("tight", 10)
    assert last.current_limit.unit == RateLimitResponse.RateLimit.HOUR
    assert (last.limit_remaining, last.duration_until_reset.seconds) == (1, 7)
    assert not answer.statuses[1].HasField("current_limit")
    told = {each.key: each.value for each in answer.response_headers_to_add}
    assert told["RateLimit"] == '"tight";r=1;t=7'
    assert "X-Fairvisor-Reservation" not in told
    assert [(each.key, each.value) for each in answer.request_headers_to_add] == [
        ("X-Fairvisor-Reservation", "r1")
    ]
    assert answer.raw_body == b""


@pytest.mark.parametrize(
    ("window", "unit"),
    [(1, "SECOND"), (60, "MINUTE"), (86_400, "DAY"), (604_800, "WEEK"), (2_592_000, "MONTH"),
     (61, "UNKNOWN")],
)  # fmt: skip
def test_windows_that_have_a_unit_are_told_in_it(window: int, unit: str) -> None:
    answer = ratelimit.write([Decision(fields=limit("p", 5, 5, window))])
    found = answer.statuses[0].current_limit.unit
    assert RateLimitResponse.RateLimit.Unit.Name(found) == unit


@pytest.mark.parametrize("status", [429, 503, 401])
def test_the_first_refusal_is_what_the_client_gets(status: int) -> None:
    decisions = [
        Decision(fields=limit("p", 5, 5), reservation="r1"),
        Decision(
            action="reject",
            status=status,
            reason="because",
            fields=limit("full", 5, 0),
            retry_after=12,
        ),
        Decision(action="reject", status=429, reason="too late"),
    ]
    answer = ratelimit.write(decisions)
    assert answer.overall_code == OVER
    assert [each.code for each in answer.statuses] == [OK, OVER, OVER]
    assert answer.raw_body == b'{"error":"because"}'
    told = {each.key: each.value for each in answer.response_headers_to_add}
    assert told["X-Fairvisor-Reason"] == "because"
    assert told["RateLimit"] == '"full";r=0;t=7'
    assert told["Content-Type"] == "application/json"
    assert told.get("X-Fairvisor-Status") == (None if status == 429 else str(status))
    assert not answer.request_headers_to_add


def test_the_longest_delay_is_told_to_who_waits_itself() -> None:
    decisions = [
        Decision(action="throttle", reason="budget_throttle", delay_ms=delay)
        for delay in (100, 700)
    ]
    assert not ratelimit.write(decisions).request_headers_to_add
    told = ratelimit.write(decisions, delay_header=True).request_headers_to_add
    assert [(each.key, each.value) for each in told] == [("X-Fairvisor-Delay-Ms", "700")]
