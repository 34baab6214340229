"""Which path speaks which dialect, and how nginx's words a decision (§7.1, §7.3, §20)."""

import pytest

from adapters import dialects, native
from adapters.envoy import dialect as envoy
from adapters.nginx import dialect as nginx
from protocol.decision import Decision, Limit

LIMIT = Limit(policy_id="p", quota=5, remaining=0, window=50, reset=10)


def head(decision: Decision) -> tuple[str, dict[str, str], bytes]:
    """Return the status line, the fields in lower case and the body of nginx's answer."""
    text, body = nginx.write(decision)
    line, *fields = text.decode().removesuffix("\r\n").split("\r\n")
    pairs = [field.split(": ", 1) for field in fields]
    return line, {name.lower(): value for name, value in pairs}, body


@pytest.mark.parametrize(
    ("target", "dialect"),
    [
        (b"/v1/decision", native),
        (b"/v1/decision/a", native),
        (b"/v1/decision?a", native),
        (b"/v1/nginx/decision", nginx),
        (b"/v1/nginx/decision/a?b", nginx),
        (b"/v1/nginx/decision?a", nginx),
        (b"/v1/envoy/decision/a?b", envoy),
        (b"/v1/nginx/decisions", None),
        (b"/v1/nginx", None),
        (b"/v1/decisions", None),
        (b"/v1/apache/decision", None),
        (b"*", None),
    ],
)
def test_the_path_chooses(target: bytes, dialect: object) -> None:
    assert dialects.find(target) is dialect


def test_no_path_is_below_another() -> None:
    for one in dialects.DIALECTS:
        assert [each for each in dialects.DIALECTS if one.PREFIX.startswith(each.PREFIX)] == [one]


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/v1/nginx/decision/api/x?a=1", "/api/x", "a=1"),
        (b"/v1/nginx/decision", "/v1/nginx/decision", ""),
        (b"/v1/nginx/decision?a=1", "/v1/nginx/decision", "a=1"),
    ],
)
def test_below_the_path_is_the_original_path(target: bytes, path: str, query: str) -> None:
    request = nginx.read("GET", target, {}, b"", "127.0.0.1", trusted=True)
    assert (request.method, request.path, request.query) == ("GET", path, query)


def test_the_original_request_is_in_headers() -> None:
    headers = {
        b"x-original-method": b"POST",
        b"x-original-uri": b"/api?x=1",
        b"x-original-host": b"shop.example",
    }
    request = nginx.read("GET", nginx.PREFIX, headers, b"", "", trusted=True)
    assert (request.method, request.path, request.query) == ("POST", "/api", "x=1")
    assert request.host == "shop.example"


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_is_403_with_the_real_status_and_no_body(status: int) -> None:
    decision = Decision(
        action="reject", status=status, reason="rate_limit_exceeded", fields=LIMIT, retry_after=12
    )
    line, fields, body = head(decision)
    assert line == "HTTP/1.1 403 Forbidden"
    assert body == b""
    assert fields == {
        "content-length": "0",
        "x-fairvisor-status": str(status),
        "retry-after": "12",
        "x-fairvisor-reason": "rate_limit_exceeded",
        "ratelimit-limit": "5",
        "ratelimit-remaining": "0",
        "ratelimit-reset": "10",
        "ratelimit": '"p";r=0;t=10',
        "ratelimit-policy": '"p";q=5;w=50',
    }


def test_401_stays_401() -> None:
    line, fields, _ = head(Decision(action="reject", status=401, reason="invalid_token"))
    assert line == "HTTP/1.1 401 Unauthorized"
    assert fields["x-fairvisor-status"] == "401"
    assert fields["www-authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize(
    "decision",
    [
        Decision(),
        Decision(fields=LIMIT, warning="budget_warn", reservation="id"),
        Decision(action="throttle", reason="budget_throttle", delay_ms=250, fields=LIMIT),
    ],
)
def test_everything_else_is_as_in_the_native_dialect(decision: Decision, *, told: bool) -> None:
    assert nginx.write(decision, delay_header=told) == native.write(decision, delay_header=told)


def test_envoy_sends_its_method_and_puts_the_path_behind() -> None:
    target = b"/v1/envoy/decision/api/x?a=1"
    request = envoy.read("DELETE", target, {}, b"{}", "127.0.0.1", trusted=True)
    assert (request.method, request.path, request.query) == ("DELETE", "/api/x", "a=1")
    assert request.body == b"{}"


def test_envoy_gets_no_status_that_it_takes_for_a_failure() -> None:
    decision = Decision(
        action="reject", status=503, reason="rate_limit_exceeded", fields=LIMIT, retry_after=12
    )
    told, body = envoy.write(decision)
    real, same = native.write(decision)
    begun = b"HTTP/1.1 403 Forbidden\r\nX-Fairvisor-Status: 503\r\n"
    assert (told, body) == (begun + real.partition(b"\r\n")[2], same)


@pytest.mark.parametrize(
    "decision",
    [
        Decision(fields=LIMIT),
        Decision(action="reject", status=429, reason="rate_limit_exceeded", retry_after=3),
        Decision(action="reject", status=401, reason="invalid_token"),
        Decision(action="throttle", reason="budget_throttle", delay_ms=250),
    ],
)
def test_envoy_gets_everything_else_as_in_the_native_dialect(decision: Decision) -> None:
    assert envoy.write(decision) == native.write(decision)
