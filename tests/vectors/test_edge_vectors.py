"""`jitter`, `composite_bearer`, `debug_cookie` and `proxy_headers` cases (§8.3, §9.3, §10)."""

import json
from pathlib import Path
from typing import Any

from daemon.engine.credentials import composite_credential
from daemon.engine.debug_session import cookie_valid
from daemon.engine.jitter import retry_after
from daemon.front.upstream_headers import (
    INJECT_PREFIX,
    UpstreamHeaders,
    injected_headers,
    parse_strip_list,
)

AREA = "*"

Case = dict[str, Any]


def test_jitter(jitter_case: Case) -> None:
    base, reason = jitter_case["base"], jitter_case["reason"]
    low, high = jitter_case["expect"]["min"], jitter_case["expect"]["max"]
    drawn, again = (
        [retry_after(base, reason, "p", "r", f"user {n}", b"key") for n in range(200)]
        for _ in range(2)
    )
    assert drawn == again
    assert low <= min(drawn)
    assert max(drawn) <= high
    assert len(set(drawn)) >= min(high - low, 5)


def test_composite_bearer(composite_bearer_case: Case) -> None:
    found = composite_credential(composite_bearer_case["authorization"].encode())
    expect = composite_bearer_case["expect"]
    assert (found is not None) is expect["valid"]
    if found is not None:
        assert found.authorization == b"Bearer " + expect["jwt"].encode()
        assert found.upstream_key == expect["upstream_key"].encode()


def test_debug_cookie(debug_cookie_case: Case) -> None:
    case = debug_cookie_case
    valid = cookie_valid(case["cookie"], case["secret"].encode(), case["at"])
    assert valid is case["expect"]["valid"]


def proxied(case: Case) -> dict[str, str]:
    config = case["config"]
    strip = config.get("strip") or ""
    environ = {
        name if name.startswith(INJECT_PREFIX) else INJECT_PREFIX + name: value
        for name, value in (config.get("inject_env") or {}).items()
    }
    stripped = parse_strip_list(strip if isinstance(strip, str) else ",".join(strip))
    lines = UpstreamHeaders(stripped, injected_headers(environ)).lines(
        [(name.encode(), value.encode()) for name, value in case["headers"].items()],
        host=b"backend",
        peer="",
    )
    own, *headers = lines.decode().removesuffix("\r\n").split("\r\n")
    assert own == "Host: backend"
    pairs = [line.partition(": ") for line in headers]
    found = {name.lower(): value for name, _, value in pairs}
    assert len(found) == len(headers), case["name"]
    return found


def proxy_cases(vectors_dir: Path) -> list[Case]:
    """Collect cases that need not exist: the one below is always there."""
    return [
        case
        for file in sorted(vectors_dir.glob("*.json"))
        for case in json.loads(file.read_text("utf-8"))["cases"]
        if case.get("kind") == "proxy_headers"
    ]


def test_proxy_headers(vectors_dir: Path) -> None:
    written_here: Case = {
        "name": "strip and inject",
        "config": {"strip": "Cookie", "inject_env": {f"{INJECT_PREFIX}X_Api_Key": "k"}},
        "headers": {"cookie": "c", "x_api_key": "client", "Accept": "*/*"},
        "expect": {"upstream": {"accept": "*/*", "X-Api-Key": "k"}, "n": 2},
    }
    for case in [written_here, *proxy_cases(vectors_dir)]:
        found = proxied(case)
        expect = case["expect"]
        for name, value in expect.get("upstream", {}).items():
            assert found.get(name.lower()) == value, case["name"]
        assert len(found) == expect.get("n", len(found)), case["name"]
