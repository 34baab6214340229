import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from protocol.bundle import CostBudget, CostSource, Stage

Faults = Callable[[str, object], dict[str, str]]
Warned = Callable[..., dict[str, str]]

CONFIG = "policies[0].spec.rules[2].algorithm_config"
STAGES = f"{CONFIG}.staged_actions"
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
REJECT = {"threshold_percent": 100, "action": "reject"}


@pytest.mark.parametrize(
    ("place", "fragment", "values"),
    [
        (f"{CONFIG}.budget", "positive", [..., *NOT_POSITIVE]),
        (f"{CONFIG}.period", "period", [..., None, "", "30m", "1M", 60, True, ["1d"]]),
        (f"{CONFIG}.timezone", "timezone", [None, "", "Mars/Base", "../UTC", "localtime", 1, []]),
        (f"{CONFIG}.cost_key", "cost_key", [None, "", "llm:eur", "header:", "query:a.b", 1, []]),
        (f"{CONFIG}.fixed_cost", "positive", NOT_POSITIVE),
        (f"{CONFIG}.default_cost", "positive", NOT_POSITIVE),
        (f"{CONFIG}.default_max_completion", "positive", NOT_POSITIVE),
        (f"{CONFIG}.reservation", "worst_case", [None, "", "average", 1, True, []]),
        (f"{CONFIG}.token_source", "object", [None, "simple_word", []]),
        (f"{CONFIG}.token_source.estimator", "simple_word", [None, "", "tiktoken", 1, []]),
        (STAGES, "non-empty", [..., None, [], {}, "x", 1]),
        (f"{STAGES}[0]", "object", [None, "reject", 100, []]),
        (
            f"{STAGES}[2].threshold_percent",
            "between",
            [..., None, -1, -0.001, 100.001, 101, "50", True, math.nan, 1e300, 10**40],
        ),
        (f"{STAGES}[2].action", "one of", [..., None, "", "block", "Warn", 1, True, []]),
        (f"{STAGES}[1].delay_ms", "delay_ms", [..., *NOT_POSITIVE]),
    ],
)
def test_rows_of_the_table(place: str, fragment: str, values: list[object], faults: Faults) -> None:
    for value in values:
        assert fragment in faults(place, value)[place], value


@pytest.mark.parametrize("period", ["1m", "5m", "1h"])
def test_a_timezone_goes_with_calendar_periods_only(period: str, faults: Faults) -> None:
    assert "timezone" in faults(f"{CONFIG}.period", period)[f"{CONFIG}.timezone"]


@pytest.mark.parametrize("period", ["1d", "7d", "1mo"])
def test_calendar_periods_take_a_timezone(period: str, faults: Faults) -> None:
    assert faults(f"{CONFIG}.period", period) == {}
    assert faults(f"{CONFIG}.timezone", "UTC") == {}


def test_a_near_timezone_is_proposed(faults: Faults) -> None:
    found = faults(f"{CONFIG}.timezone", "europe/berlin")
    assert "did you mean `Europe/Berlin`?" in found[f"{CONFIG}.timezone"]


@pytest.mark.parametrize(
    ("stages", "fragments"),
    [
        ([REJECT], []),
        ([REJECT, {"threshold_percent": 0, "action": "warn"}], []),
        ([{"threshold_percent": 100.0, "action": "reject"}], []),
        ([REJECT, REJECT], ["ascending"]),
        ([REJECT, {"threshold_percent": 100, "action": "warn"}], ["ascending"]),
        ([{"threshold_percent": 100, "action": "warn"}], ["reject at 100"]),
        ([{"threshold_percent": 99.999, "action": "reject"}], ["reject at 100"]),
        ([{"threshold_percent": 8, "action": "warn"}] * 2, ["ascending", "reject at 100"]),
    ],
)
def test_stages_together(
    stages: list[object],
    fragments: list[str],
    edited: Callable[[str, object], dict[str, Any]],
    report: Callable[..., Any],
) -> None:
    errors = report(edited(STAGES, stages)).errors
    assert [problem.path for problem in errors] == [f"$.{STAGES}"] * len(fragments)
    for fragment, problem in zip(fragments, errors, strict=True):
        assert fragment in problem.message


def test_a_broken_last_stage_is_not_also_called_missing(faults: Faults) -> None:
    place = f"{STAGES}[0].threshold_percent"
    assert list(faults(place, "100")) == [place]
    assert list(faults(f"{STAGES}[0].action", "rejct")) == [f"{STAGES}[0].action"]


def test_values(full: dict[str, Any], report: Callable[..., Any]) -> None:
    (_, policy) = report(full).bundle.policies
    assert policy.rules[2].algorithm == CostBudget(
        budget=10_000_000,
        period="1mo",
        stages=(
            Stage(Fraction(50), "warn"),
            Stage(Fraction(161, 2), "throttle", Fraction(200)),
            Stage(Fraction(100), "reject"),
        ),
        timezone="Europe/Berlin",
        cost=CostSource("llm:usd"),
        default_max_completion=50,
        estimator="tokenizer",
        reservation="learned",
    )


def test_settings_without_effect_are_pointed_out(warned: Warned) -> None:
    assert "no effect" in warned(f"{STAGES}[2].delay_ms", 5)[f"{STAGES}[2].delay_ms"]
    assert "no effect" in warned(f"{STAGES}[2].action", "reject")[f"{STAGES}[2].action"]
    learned = f"{CONFIG}.cost_key"
    assert "no effect" in warned(learned, "fixed")[f"{CONFIG}.reservation"]
    assert warned(learned, "llm:tokens") == {}
    assert "30000" in warned(f"{STAGES}[1].delay_ms", 30001)[f"{STAGES}[1].delay_ms"]
    assert warned(f"{STAGES}[1].delay_ms", 30000) == {}
