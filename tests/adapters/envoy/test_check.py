"""Envoy's question over gRPC and what it is answered (`envoy.service.auth.v3`)."""

from collections.abc import Mapping

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from adapters.envoy import check
from protocol.decision import Decision, Limit
from protocol.request import Request

LIMIT = Limit(policy_id="p", quota=5, remaining=0, window=50, reset=10)


def question(source: str = "192.0.2.7", **http: object) -> CheckRequest:
    asked = CheckRequest()
    asked.attributes.source.address.socket_address.address = source
    given = {"method": "GET", "path": "/a", **http}
    for name, value in given.items():
        if name == "headers":
            asked.attributes.request.http.headers.update(value)
        else:
            setattr(asked.attributes.request.http, name, value)
    return asked


def read(asked: CheckRequest, peer: str = "127.0.0.1", *, trusted: bool = True) -> Request:
    return check.read(asked, peer, trusted=trusted, max_body=10)


def raw(*pairs: tuple[str, bytes]) -> CheckRequest:
    asked = question()
    for key, value in pairs:
        asked.attributes.request.http.header_map.headers.add(key=key, raw_value=value)
    return asked


def fields(options: object) -> dict[str, str]:
    return {each.header.key: each.header.value for each in options}  # type: ignore[attr-defined]


def test_what_is_asked_for_is_in_the_attributes() -> None:
    spoof = {"x-original-uri": "/b", "x-forwarded-method": "PUT", "x-forwarded-host": "b.test"}
    asked = question(method="POST", path="/a/%2e?x=1?y", host="a.test:80", headers=spoof)
    request = read(asked)
    assert (request.method, request.path, request.query) == ("POST", "/a/%2e", "x=1?y")
    assert request.host == "a.test:80"


@pytest.mark.parametrize(
    ("source", "headers", "expected"),
    [
        ("192.0.2.7", {}, b"192.0.2.7"),
        ("192.0.2.7", {"x-forwarded-for": "1.1.1.1"}, b"1.1.1.1, 192.0.2.7"),
        ("192.0.2.7", {"x_forwarded_for": "1.1.1.1"}, b"1.1.1.1, 192.0.2.7"),
        ("", {"x-forwarded-for": "1.1.1.1"}, None),
        ("", {}, None),
    ],
)
def test_who_connected_to_envoy_is_the_last_hop(
    source: str, headers: Mapping[str, str], expected: bytes | None
) -> None:
    request = read(question(source, headers=headers))
    assert request.headers.get(b"x-forwarded-for") == expected
    assert request.peer == ""


def test_a_peer_that_is_not_trusted_is_who_asks() -> None:
    request = read(question(), "203.0.113.9", trusted=False)
    assert (request.peer, request.trusted) == ("203.0.113.9", False)


@pytest.mark.parametrize(
    "asked",
    [
        question(headers={":path": "/x", "X-Key": "a", "x-other": "b"}),
        raw((":path", b"/x"), ("x-key", b"a"), ("X-Other", b"b"), ("x-key", b"c")),
        raw(("x_key", b"c"), ("x-key", b"a"), ("x_other", b"b")),
    ],
)
def test_header_names_are_canonical_and_the_first_counts(asked: CheckRequest) -> None:
    headers = dict(read(asked).headers)
    del headers[b"x-forwarded-for"]
    assert headers == {b"x-key": b"a", b"x-other": b"b"}


def test_lines_of_forwarded_for_are_joined_and_bytes_stay_bytes() -> None:
    asked = raw(("x-forwarded-for", b"1.1.1.1"), ("x-forwarded-for", b"2.2.2.2"), ("x-b", b"\xff"))
    headers = read(asked).headers
    assert headers[b"x-forwarded-for"] == b"1.1.1.1, 2.2.2.2, 192.0.2.7"
    assert headers[b"x-b"] == b"\xff"


@pytest.mark.parametrize(
    ("http", "body"),
    [
        ({"raw_body": b"\x00\xff"}, b"\x00\xff"),
        ({"body": "ä"}, "ä".encode()),
        ({"raw_body": b"0123456789 and more"}, b"0123456789"),
        ({}, b""),
    ],
)
def test_of_a_body_as_much_is_read_as_may_be(http: dict[str, object], body: bytes) -> None:
    assert read(question(**http)).body == body


def test_a_head_beyond_the_bounds_does_not_fit() -> None:
    assert check.fits(question(headers={"a": "b"}), 1000)
    assert check.fits(question(headers={f"a{n}": "b" for n in range(128)}), 10_000)
    assert not check.fits(question(headers={f"a{n}": "b" for n in range(129)}), 10_000)
    assert not check.fits(question(headers={"a": "b" * 1000}), 1000)
    assert not check.fits(question(path="/" + "b" * 1000), 1000)
    assert not check.fits(raw(("a", b"b" * 1000)), 1000)


def test_an_allow_tells_the_client_of_limits_and_the_service_of_the_reservation() -> None:
    decision = Decision(fields=LIMIT, warning="budget_warn", reservation="r1")
    answer = check.write(decision)
    assert answer.status.code == 0
    allowed = answer.ok_response
    assert fields(allowed.headers) == {"X-Fairvisor-Reservation": "r1"}
    told = fields(allowed.response_headers_to_add)
    assert told["RateLimit"] == '"p";r=0;t=10'
    assert told["X-Fairvisor-Warning"] == "budget_warn"
    assert {each.append_action for each in allowed.response_headers_to_add} == {
        allowed.response_headers_to_add[0].OVERWRITE_IF_EXISTS_OR_ADD
    }


def test_a_throttle_is_told_to_who_waits_itself() -> None:
    decision = Decision(action="throttle", reason="budget_throttle", delay_ms=700)
    assert fields(check.write(decision).ok_response.headers) == {}
    told = check.write(decision, delay_header=True).ok_response.headers
    assert fields(told) == {"X-Fairvisor-Delay-Ms": "700"}


@pytest.mark.parametrize(("status", "code"), [(429, 8), (503, 14), (401, 16)])
def test_a_refusal_is_whole(status: int, code: int) -> None:
    decision = Decision(
        action="reject", status=status, reason="because", fields=LIMIT, retry_after=12
    )
    answer = check.write(decision)
    assert answer.status.code == code
    denied = answer.denied_response
    assert denied.status.code == status
    assert denied.body == '{"error":"because"}'
    told = fields(denied.headers)
    assert told["Content-Type"] == "application/json"
    assert told["X-Fairvisor-Reason"] == "because"
    assert told["RateLimit-Policy"] == '"p";q=5;w=50'
    if status == 401:
        assert told["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    else:
        assert told["Retry-After"] == "12"


def test_what_cannot_be_read_is_431() -> None:
    answer = check.write_unreadable()
    assert answer.status.code != 0
    assert answer.denied_response.status.code == 431
