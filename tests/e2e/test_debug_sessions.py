"""Debug sessions of the running daemon (§9.3)."""

from collections.abc import Callable
from typing import Any

import pytest

Daemon = Any
"""The `Daemon` of conftest.py."""
Serve = Callable[..., Daemon]
MakePolicy = Callable[..., dict[str, Any]]
Answer = Any

SECRET = "canary-debug-secret"  # noqa: S105 - a test's
LOGIN = "/v1/debug/session"
LOGOUT = "/v1/debug/logout"


@pytest.fixture(name="daemon", scope="module")
def _daemon(serve_all: Serve, bucket_policy: MakePolicy) -> Daemon:
    policy = bucket_policy("p", "/api/", "header:x-api-key", 0.01, 1)
    document = {"bundle_version": 1, "policies": [policy]}
    return serve_all(document, debug_session_secret=SECRET, worker_processes=2)


def ask(daemon: Daemon, target: str, method: str = "POST", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with daemon.connect() as connection:
        return connection.request(target, named, method=method)


def login(daemon: Daemon) -> str:
    answer = ask(daemon, LOGIN, X_Fairvisor_Debug_Secret=SECRET)
    assert answer.status == 204
    cookie: str = answer.headers["set-cookie"]
    return cookie


def test_the_secret_opens_a_session_and_logout_ends_it(daemon: Daemon) -> None:
    cookie = login(daemon)
    assert cookie.startswith("fv_dbg=")
    for attribute in ("Path=/", "Max-Age=900", "HttpOnly", "Secure", "SameSite=Strict"):
        assert f"; {attribute}" in cookie
    ended = ask(daemon, LOGOUT)
    assert ended.status == 204
    assert "Max-Age=0" in ended.headers["set-cookie"]


@pytest.mark.parametrize("given", [{}, {"X_Fairvisor_Debug_Secret": "wrong"}])
def test_a_wrong_secret_is_refused(daemon: Daemon, given: dict[str, str]) -> None:
    answer = ask(daemon, LOGIN, **given)
    assert (answer.status, answer.body) == (403, b'{"error":"debug_secret_invalid"}')
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", [LOGIN, LOGOUT])
def test_only_post_is_allowed(daemon: Daemon, path: str) -> None:
    answer = ask(daemon, path, "GET", X_Fairvisor_Debug_Secret=SECRET)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_answers_explain_themselves_in_a_session(daemon: Daemon) -> None:
    cookie = login(daemon).partition(";")[0]
    headers = {"Cookie": f"other=1; {cookie}", "X-Api-Key": "canary"}
    allowed = daemon.decide("/api/a", headers)
    refused = daemon.decide("/api/a", headers)
    assert (allowed.status, refused.status) == (200, 429)
    for answer, action in ((allowed, "allow"), (refused, "reject")):
        assert answer.headers["x-fairvisor-decision"] == action
        assert answer.headers["x-fairvisor-mode"] == "enforce"
        assert int(answer.headers["x-fairvisor-latency-us"]) > 0
        assert answer.headers["x-fairvisor-debug-policy"] == "p"
        assert answer.headers["x-fairvisor-debug-rule"] == "bucket"
        assert answer.headers["x-fairvisor-debug-matched-policies"] == "p"
        assert answer.headers["x-fairvisor-debug-descriptor-1-key"] == "header:x-api-key"
        assert answer.headers["x-fairvisor-debug-descriptor-1-value"].startswith("hashed:")
        assert "canary" not in str(answer.headers)
    assert refused.headers["x-fairvisor-debug-reason"] == "rate_limit_exceeded"
    elsewhere = daemon.decide("/none", headers)
    assert elsewhere.headers["x-fairvisor-debug-reason"] == "no_matching_policy"


@pytest.mark.parametrize("cookie", ["", "fv_dbg=9999999999.forged", "fv_dbg=1.x", "other=1"])
def test_without_a_valid_cookie_nothing_is_explained(
    daemon: Daemon,
    cookie: str,
) -> None:
    for user in ("a", "a"):
        answer = daemon.decide(f"/api/{user}", {"X-Api-Key": f"c{cookie}", "Cookie": cookie})
        shown = {name for name in answer.headers if name.startswith("x-fairvisor-")}
        assert shown <= {"x-fairvisor-reason"}


def test_without_a_secret_there_are_no_sessions(
    serve: Serve,
    bucket_policy: MakePolicy,
) -> None:
    document = {"bundle_version": 1, "policies": [bucket_policy("p", "/", "ip:address", 1, 9)]}
    daemon = serve(document)
    for method in ("POST", "GET"):
        assert ask(daemon, LOGIN, method, X_Fairvisor_Debug_Secret="").status == 404
        assert ask(daemon, LOGOUT, method).status == 404
