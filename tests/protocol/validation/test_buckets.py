import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from protocol.bundle import CostSource, SlidingWindow, TokenBucket

Faults = Callable[[str, object], dict[str, str]]

BUCKET = "policies[0].spec.rules[0].algorithm_config"
WINDOW = "policies[0].spec.rules[1].algorithm_config"
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
        (f"{BUCKET}.tokens_per_second", "required", [...]),
        (f"{BUCKET}.tokens_per_second", "positive", [..., *NOT_POSITIVE]),
        (f"{BUCKET}.burst", "required", [...]),
        (f"{BUCKET}.burst", "positive", [..., *NOT_POSITIVE]),
        (f"{BUCKET}.burst", "burst must be >=", [0.05, 0.09999999999999999]),
        (f"{BUCKET}.fixed_cost", "positive", NOT_POSITIVE),
        (f"{BUCKET}.default_cost", "positive", NOT_POSITIVE),
        (f"{WINDOW}.limit", "limit", [..., *NOT_POSITIVE]),
        (f"{WINDOW}.window_seconds", "window_seconds", [..., *NOT_POSITIVE, 1.5, 0.1]),
        (f"{WINDOW}.fixed_cost", "positive", NOT_POSITIVE),
    ],
)
def test_rows_of_the_table(place: str, fragment: str, values: list[object], faults: Faults) -> None:
    for value in values:
        assert fragment in faults(place, value)[place], value


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        True,
        [],
        "",
        "free",
        "header",
        "header:",
        "header:a b",
        "query:",
        "llm:usd",
        "FIXED",
    ],
)
@pytest.mark.parametrize("config", [BUCKET, WINDOW])
def test_cost_source(config: str, value: object, faults: Faults) -> None:
    place = f"{config}.cost_source"
    assert "cost_source" in faults(place, value)[place]


def test_absurd_magnitudes_are_called_so(faults: Faults) -> None:
    assert "absurdly large" in faults(f"{BUCKET}.burst", 1e16)[f"{BUCKET}.burst"]
    assert faults(f"{BUCKET}.burst", 10**12) == {}


def test_the_alias_stands_in_and_its_faults_are_at_the_name(faults: Faults) -> None:
    place = f"{BUCKET}.tokens_per_second"
    assert faults(BUCKET, {"rps": 5, "burst": 5}) == {}
    assert "positive" in faults(BUCKET, {"rps": "5", "burst": 5})[place]
    assert "given as rps" in faults(BUCKET, {"rps": 0, "burst": 5})[place]
    assert "burst must be >=" in faults(BUCKET, {"rps": 5, "burst": 4})[f"{BUCKET}.burst"]


def test_a_second_rate_is_ignored_with_a_warning(warned: Callable[..., dict[str, str]]) -> None:
    assert "ignored" in warned(f"{BUCKET}.rps", "whatever")[f"{BUCKET}.rps"]


def test_bucket_values(full: dict[str, Any], report: Callable[..., Any]) -> None:
    (_, policy) = report(full).bundle.policies
    assert policy.rules[0].algorithm == TokenBucket(
        Fraction(1, 10), 2_500_000, CostSource("header", "x-cost", 3_000_000, 250_000)
    )
    assert policy.fallback_limit.algorithm == TokenBucket(Fraction(1), 1_000_000, CostSource())


def test_window_values(full: dict[str, Any], report: Callable[..., Any]) -> None:
    (_, policy) = report(full).bundle.policies
    assert policy.rules[1].algorithm == SlidingWindow(500_000, 60, CostSource("query", "Cost"))


def test_tiny_costs_are_never_free(
    edited: Callable[[str, object], dict[str, Any]], report: Callable[..., Any]
) -> None:
    (_, policy) = report(edited(f"{BUCKET}.fixed_cost", 1e-9)).bundle.policies
    assert policy.rules[0].algorithm.cost.fixed_cost == 1
