from fractions import Fraction

import pytest

from daemon.engine.checks import Check
from daemon.engine.limits import gauges, refused_gauge, stage_of
from protocol.bundle import CostBudget, LlmBudget, Rule, Stage
from protocol.periods import Calendar

M = 1_000_000


def check(algorithm: object, kind: str, **more: object) -> Check:
    rule = Rule("r", (), algorithm)  # type: ignore[arg-type]
    return Check(kind=kind, number=0, refuse=1, segment=0, shadow=False, policy_id="p", route="/",  # type: ignore[arg-type]
                 rule=rule, **more)  # type: ignore[arg-type]  # fmt: skip


def budget(*stages: Stage) -> Check:
    config = CostBudget(10 * M, "1d", stages)
    return check(config, "cost_based", limit=10, quota=10, calendar=Calendar("1d"))


STAGES = (
    Stage(Fraction(0), "warn"),
    Stage(Fraction(50), "reject"),
    Stage(Fraction(100, 3), "throttle", Fraction(5)),
    Stage(Fraction(100), "reject"),
)


@pytest.mark.parametrize(
    ("left", "action"),
    [
        (10 * M, "warn"),
        (6_666_667, "warn"),
        (6_666_666, "throttle"),  # a third of ten, passed by a third of a micro-unit
        (4 * M, "throttle"),  # a reject below 100 has no effect
        (0, "throttle"),
    ],
)
def test_stages(left: int, action: str) -> None:
    stage = stage_of(budget(*sorted(STAGES, key=lambda stage: stage.threshold)), left)
    assert stage is not None
    assert stage.action == action


def test_no_stage() -> None:
    assert stage_of(budget(Stage(Fraction(100), "reject")), 0) is None
    assert stage_of(check(LlmBudget(60 * M, 60 * M), "token_bucket_llm"), 0) is None


def test_an_llm_limit_has_two_gauges_in_order() -> None:
    both = check(LlmBudget(60 * M, 90 * M, 1000 * M), "token_bucket_llm", limit=60, quota=60)
    minute, day = gauges(both, [80, 400])
    assert (minute.remaining, minute.limit, minute.window, minute.reset) == (80, 60, 60, 1)
    assert (day.remaining, day.limit, day.quota) == (400, 1000, 1000)
    assert day.to_end is not None
    assert day.to_end(1) == (86_400, 86_400)
    assert day.to_end(86_399 * M + 1) == (86_400, 1)
    assert len(gauges(both, [80, None])) == 1


@pytest.mark.parametrize("reason", ["descriptor_missing", "unknown_model", "counter_unavailable"])
def test_some_refusals_speak_of_no_limit(reason: str) -> None:
    assert refused_gauge(budget(), -1, reason, 1, 0) is None


def test_a_periods_window_is_that_of_the_day() -> None:
    berlin = Calendar("1d", "Europe/Berlin")
    short = check(CostBudget(10 * M, "1d", ()), "cost_based", limit=10, quota=10, calendar=berlin)
    gauge = refused_gauge(short, -5, "budget_exhausted", 5, 1_774_760_400 * M)  # 2026-03-29
    assert gauge is not None
    assert (gauge.window, gauge.reset) == (82_800, 5)
