from collections.abc import Callable
from typing import Any

import pytest

from protocol.bundle import KillSwitch

Faults = Callable[[str, object], dict[str, str]]

SWITCH = "kill_switches[0]"
NOT_TIMES: list[object] = [None, 1, True, "", "2030-01-01", "2030-01-01T00:00:00+01:00", []]


@pytest.mark.parametrize("block", ["global_shadow", "kill_switch_override"])
@pytest.mark.parametrize(
    ("field", "fragment", "values"),
    [
        ("", "object", [None, True, "x", [], 1]),
        (".enabled", "enabled", [..., None, 0, 1, "true", [], {}]),
        (".reason", "required", [..., None, "", 1, True, []]),
        (".reason", "256", ["x" * 257, "é" * 129]),
        (".expires_at", "required", [..., None]),
        (".expires_at", "invalid", NOT_TIMES),
        (".expires_at", "expired", ["2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]),
    ],
)
def test_rows_of_the_blocks(
    block: str, field: str, fragment: str, values: list[object], faults: Faults
) -> None:
    for value in values:
        assert fragment in faults(block + field, value)[block + field], value


@pytest.mark.parametrize("block", ["global_shadow", "kill_switch_override"])
def test_limits_of_the_blocks(
    block: str,
    edited: Callable[[str, object], dict[str, Any]],
    report: Callable[..., Any],
    faults: Faults,
) -> None:
    assert faults(f"{block}.reason", "é" * 128) == {}
    assert faults(f"{block}.expires_at", "2026-01-01T00:00:01Z") == {}
    off = report(edited(block, {"enabled": False, "reason": 5, "expires_at": "never"}))
    assert getattr(off.bundle, block) is None


@pytest.mark.parametrize(
    ("field", "fragment", "values"),
    [
        ("", "object", [None, "x", [], 1]),
        (".scope_key", "scope_key", [..., None, "", "tenant", "jwt:", "ip", 1, []]),
        (".scope_value", "scope_value", [..., None, "", 7, True, []]),
        (".route", "route", [None, "", "v1", 1, True, []]),
        (".reason", "reason", [None, 1, True, [], {}]),
        (".expires_at", "expires_at", NOT_TIMES),
    ],
)
def test_rows_of_kill_switches(
    field: str, fragment: str, values: list[object], faults: Faults
) -> None:
    for value in values:
        assert fragment in faults(SWITCH + field, value)[SWITCH + field], value


def test_kill_switch_values(
    full: dict[str, Any],
    edited: Callable[[str, object], dict[str, Any]],
    report: Callable[..., Any],
) -> None:
    assert report(full).bundle.kill_switches == (
        KillSwitch("header:x-tenant", "t", "/v1", "incident", 1577836800),
    )
    bare = {"scope_key": "ip:address", "scope_value": "::1", "reason": ""}
    switches = report(edited(SWITCH, bare)).bundle.kill_switches
    assert switches == (KillSwitch("ip:address", "::1", reason=""),)


def test_a_route_with_a_query_is_pointed_out(warned: Callable[..., dict[str, str]]) -> None:
    assert "query" in warned(f"{SWITCH}.route", "/v1?x")[f"{SWITCH}.route"]
