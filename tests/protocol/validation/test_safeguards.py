import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from protocol.bundle import CircuitBreaker, LoopDetection

Faults = Callable[[str, object], dict[str, str]]

LOOP = "policies[0].spec.loop_detection"
BREAKER = "policies[0].spec.circuit_breaker"
NOT_BOOLEAN: list[object] = [None, 0, 1, "true", "", [], {}]
NOT_POSITIVE: list[object] = [
    None,
    True,
    "5",
    "",
    [],
    {},
    0,
    -1,
    -0.5,
    math.nan,
    math.inf,
    1e300,
    10**40,
]


@pytest.mark.parametrize(
    ("place", "fragment", "values"),
    [
        (f"{LOOP}.enabled", "boolean", NOT_BOOLEAN),
        (f"{LOOP}.window_seconds", "window_seconds", [..., *NOT_POSITIVE, 1.5]),
        (f"{LOOP}.threshold_identical_requests", "threshold", [..., *NOT_POSITIVE, 1, 2.5]),
        (f"{LOOP}.action", "action", [None, "", "block", 1, True, []]),
        (f"{LOOP}.similarity", "exact", [None, "", "fuzzy", 1, True, []]),
        (f"{BREAKER}.enabled", "boolean", NOT_BOOLEAN),
        (f"{BREAKER}.spend_rate_threshold_per_minute", "positive", [..., *NOT_POSITIVE]),
        (f"{BREAKER}.action", "reject", [None, "", "throttle", 1, True, []]),
        (
            f"{BREAKER}.auto_reset_after_minutes",
            "non-negative",
            [None, True, "0", "", [], -1, -0.001, math.nan, math.inf, 1e300],
        ),
        (f"{BREAKER}.alert", "boolean", NOT_BOOLEAN),
    ],
)
def test_rows_of_the_table(place: str, fragment: str, values: list[object], faults: Faults) -> None:
    for value in values:
        assert fragment in faults(place, value)[place], value


@pytest.mark.parametrize("place", [LOOP, BREAKER])
@pytest.mark.parametrize("enabled", [{"enabled": False}, {}])
def test_what_is_off_may_hold_anything(
    place: str,
    enabled: dict[str, bool],
    edited: Callable[[str, object], dict[str, Any]],
    report: Callable[..., Any],
) -> None:
    found = report(edited(place, {**enabled, "action": 7, "window_seconds": -1}))
    assert found.bundle is not None
    off = f"$.{place}.enabled" in [problem.path for problem in found.warnings]
    assert off == (not enabled)


def test_values(full: dict[str, Any], report: Callable[..., Any]) -> None:
    (_, policy) = report(full).bundle.policies
    assert policy.loop_detection == LoopDetection(60, 10, "throttle")
    assert policy.circuit_breaker == CircuitBreaker(12_500_000, Fraction(1, 2), alert=True)


def test_defaults(
    edited: Callable[[str, object], dict[str, Any]], report: Callable[..., Any]
) -> None:
    document = edited(
        LOOP, {"enabled": True, "window_seconds": 1.0, "threshold_identical_requests": 2}
    )
    document["policies"][0]["spec"]["circuit_breaker"] = {
        "enabled": True,
        "spend_rate_threshold_per_minute": 1,
    }
    (_, policy) = report(document).bundle.policies
    assert policy.loop_detection == LoopDetection(1, 2, "reject")
    assert policy.circuit_breaker == CircuitBreaker(1_000_000, Fraction(0), alert=False)
