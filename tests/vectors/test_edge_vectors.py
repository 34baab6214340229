"""`jitter`, `composite_bearer`, `debug_cookie` and `proxy_headers` cases (§8.3, §9.3, §10)."""

import json
from pathlib import Path
from typing import Any

import pytest

from daemon.engine.credentials import composite_credential
from daemon.engine.debug_session import cookie_valid
from daemon.engine.jitter import retry_after
from daemon.front.upstream_headers import (
    INJECT_PREFIX,
    injected_headers,
    parse_strip_list,
    strip_and_inject,
)

Case = dict[str, Any]


@pytest.fixture(scope="session")
def cases(vectors_dir: Path) -> list[Case]:
    """All cases of all areas: a kind may stand in any file."""
    return [
        case
        for file in sorted(vectors_dir.glob("*.json"))
        for case in json.loads(file.read_text("utf-8"))["cases"]
    ]


def of_kind(cases: list[Case], kind: str) -> list[Case]:
    return [case for case in cases if case.get("kind") == kind]


def test_jitter(cases: list[Case]) -> None:
    assert of_kind(cases, "jitter")
    for case in of_kind(cases, "jitter"):
        base, low, high = case["base"], case["expect"]["min"], case["expect"]["max"]
        drawn = [retry_after(base, case["reason"], "p", "r", f"u{n}", b"key") for n in range(200)]
        again = [retry_after(base, case["reason"], "p", "r", f"u{n}", b"key") for n in range(200)]
        assert low <= min(drawn), case["name"]
        assert max(drawn) <= high, case["name"]
        assert drawn == again, case["name"]
        assert len(set(drawn)) >= min(high - low, 5), case["name"]


def test_composite_bearer(cases: list[Case]) -> None:
    assert of_kind(cases, "composite_bearer")
    for case in of_kind(cases, "composite_bearer"):
        found = composite_credential(case["authorization"].encode())
        expect = case["expect"]
        assert (found is not None) is expect["valid"], case["name"]
        if found is not None:
            assert found.authorization == b"Bearer " + expect["jwt"].encode(), case["name"]
            assert found.upstream_key == expect["upstream_key"].encode(), case["name"]


def test_debug_cookie(cases: list[Case]) -> None:
    assert of_kind(cases, "debug_cookie")
    for case in of_kind(cases, "debug_cookie"):
        valid = cookie_valid(case["cookie"], case["secret"].encode(), case["at"])
        assert valid is case["expect"]["valid"], case["name"]


def proxied(case: Case) -> dict[str, str]:
    config = case["config"]
    strip = config.get("strip") or ""
    environ = {
        name if name.startswith(INJECT_PREFIX) else INJECT_PREFIX + name: value
        for name, value in (config.get("inject_env") or {}).items()
    }
    headers = strip_and_inject(
        [(name.encode(), value.encode()) for name, value in case["headers"].items()],
        parse_strip_list(strip if isinstance(strip, str) else ",".join(strip)),
        injected_headers(environ),
    )
    found = {name.decode().lower(): value.decode() for name, value in headers}
    assert len(found) == len(headers), case["name"]
    return found


def test_proxy_headers(cases: list[Case]) -> None:
    written_here: Case = {
        "name": "strip and inject",
        "config": {"strip": "Cookie", "inject_env": {f"{INJECT_PREFIX}X_Api_Key": "k"}},
        "headers": {"cookie": "c", "x_api_key": "client", "Accept": "*/*"},
        "expect": {"upstream": {"accept": "*/*", "X-Api-Key": "k"}, "n": 2},
    }
    for case in [written_here, *of_kind(cases, "proxy_headers")]:
        found = proxied(case)
        expect = case["expect"]
        for name, value in expect.get("upstream", {}).items():
            assert found.get(name.lower()) == value, case["name"]
        assert len(found) == expect.get("n", len(found)), case["name"]
