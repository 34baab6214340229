"""Warnings that tell an operator what was forgotten (§4.2, §4.4), once a minute each."""

from collections.abc import Callable
from typing import Any

Daemon = Any
"""The `Daemon` of conftest.py."""
Serve = Callable[..., Daemon]
MakePolicy = Callable[..., dict[str, Any]]
Wait = Callable[..., None]


def said(daemon: Daemon, words: str) -> list[str]:
    return [line for line in daemon.said().splitlines() if words in line]


def test_a_forgotten_gateway_is_named(
    serve: Serve,
    bucket_policy: MakePolicy,
    wait_until: Wait,
) -> None:
    document = {"bundle_version": 1, "policies": [bucket_policy("p", "/", "ip:address", 1, 9)]}
    daemon = serve(document, trusted_proxies="192.0.2.0/24")
    for _ in range(5):
        daemon.decide("/canary", {"X-Forwarded-For": "203.0.113.9"})
    variable = "FAIRVISOR_TRUSTED_PROXIES"
    wait_until(lambda: said(daemon, variable), 10.0, "a warning")
    (line,) = said(daemon, variable)
    assert "WARNING" in line
    assert "127.0.0.1" in line
    assert "canary" not in line


def test_a_trusted_gateway_is_not_warned_of(
    serve: Serve,
    bucket_policy: MakePolicy,
) -> None:
    document = {"bundle_version": 1, "policies": [bucket_policy("p", "/", "ip:address", 1, 9)]}
    daemon = serve(document)
    daemon.decide("/a", {"X-Forwarded-For": "203.0.113.9"})
    assert daemon.stop() == 0
    assert not said(daemon, "FAIRVISOR_TRUSTED_PROXIES")


def test_a_rule_that_is_not_applied_is_named(
    serve: Serve,
    bucket_policy: MakePolicy,
    wait_until: Wait,
) -> None:
    document = {"bundle_version": 1, "policies": [bucket_policy("p", "/", "jwt:org", 1, 9)]}
    daemon = serve(document)
    for _ in range(5):
        assert daemon.decide("/a").status == 200
    wait_until(lambda: said(daemon, "was not applied"), 10.0, "a warning")
    (line,) = said(daemon, "was not applied")
    assert "'bucket'" in line
    assert "'p'" in line
    assert "jwt:org" in line
