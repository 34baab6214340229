"""Verdicts to a decision, row by row of §5.3, §8.2 and §23."""

from typing import Any

import pytest

from daemon.engine.engine import Engine
from daemon.engine.evaluation import Evaluation
from daemon.engine.outcome import Outcome, fold
from daemon.engine.sources import Sources
from daemon.replay import request_of
from protocol.decision import Decision
from tests.properties.bundles import START, compiled

M = 1_000_000
STAGES = [
    {"threshold_percent": 50, "action": "warn"},
    {"threshold_percent": 80, "action": "throttle", "delay_ms": 250.2},
    {"threshold_percent": 90, "action": "throttle", "delay_ms": 99_000},
    {"threshold_percent": 100, "action": "reject"},
]
CONFIGS: dict[str, dict[str, Any]] = {
    "token_bucket": {"tokens_per_second": 2, "burst": 9},
    "sliding_window": {"limit": 10, "window_seconds": 60},
    "cost_based": {"budget": 10, "period": "1h", "staged_actions": STAGES},
    "token_bucket_llm": {"tokens_per_minute": 60, "tokens_per_day": 1000},
}
END_OF_HOUR = 3600 - START % 3600
MIDNIGHT = 86_400 - START % 86_400


def limit(algorithm: str, name: str = "r", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "name": name,
        "limit_keys": [],
        "algorithm": algorithm,
        "algorithm_config": CONFIGS[algorithm],
    } | more


def loop(action: str) -> dict[str, Any]:
    return {
        "enabled": True,
        "window_seconds": 30,
        "threshold_identical_requests": 3,
        "action": action,
    }


BREAKER = {"enabled": True, "spend_rate_threshold_per_minute": 5}


def spec(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"selector": {"pathPrefix": "/"}, "rules": list(rules)} | more


def evaluate(*specs: dict[str, Any]) -> Evaluation:
    policies = [{"id": f"p{number}", "spec": each} for number, each in enumerate(specs)]
    sources = Sources(draw_id=lambda: bytes(16))
    engine = Engine(compiled({"bundle_version": 1, "policies": policies}), sources)
    begun = engine.begin(request_of({"path": "/"}, sources), START * M)
    assert not isinstance(begun, Decision)
    return begun


def decide(verdicts: list[Any], *specs: dict[str, Any]) -> tuple[Outcome, Decision]:
    evaluation = evaluate(*specs)
    evaluation.reply(0, START * M, verdicts if len(verdicts) > 1 else verdicts[0])
    return fold(evaluation)


def check(decision: Decision, wanted: dict[str, Any]) -> None:
    assert {name: getattr(decision, name) for name in wanted} == wanted


ALLOW = {"action": "allow", "status": 200, "reason": "all_rules_passed", "would_reject": False}
THROTTLE = {"action": "throttle", "status": 200}
BUDGET = limit("cost_based")


@pytest.mark.parametrize(
    ("verdicts", "specs", "wanted"),
    [
        (
            [5],
            [spec(limit("token_bucket"))],
            ALLOW | {"policy_id": "p0", "rule_name": "r", "limit": 9, "remaining": 5},
        ),
        # the tightest by its share; of equals the first
        (
            [5, 1],
            [spec(limit("token_bucket"), limit("sliding_window", "s"))],
            ALLOW | {"rule_name": "s", "limit": 10, "remaining": 1},
        ),
        (
            [9, 10],
            [spec(limit("token_bucket"), limit("sliding_window", "s"))],
            ALLOW | {"rule_name": "r"},
        ),
        (
            [[30, 900], 9],
            [spec(limit("token_bucket_llm"), limit("token_bucket", "s"))],
            ALLOW
            | {
                "rule_name": "r",
                "limit": 60,
                "remaining": 30,
                "reserved": 1000,
                "remaining_tpm": 30,
                "remaining_tpd": 900,
            },
        ),
        ([[60, 10]], [spec(limit("token_bucket_llm"))], ALLOW | {"limit": 1000, "remaining": 10}),
        # budget stages; exact thresholds count
        ([5_000_001], [spec(BUDGET)], ALLOW | {"remaining": 5.000001, "warning": ""}),
        (
            [5 * M],
            [spec(BUDGET)],
            {"action": "allow", "reason": "budget_warn", "warning": "budget_warn"},
        ),
        (
            [2 * M],
            [spec(BUDGET)],
            THROTTLE | {"reason": "budget_throttle", "warning": "budget_throttle", "delay_ms": 251},
        ),
        ([0], [spec(BUDGET)], THROTTLE | {"delay_ms": 30_000}),
        ([2 * M, 0], [spec(BUDGET), spec(BUDGET)], {"policy_id": "p1", "delay_ms": 30_000}),
        ([0, 2 * M], [spec(BUDGET), spec(BUDGET)], {"policy_id": "p1", "delay_ms": 251}),
        (
            [5 * M, 5 * M],
            [spec(BUDGET), spec(BUDGET)],
            {"policy_id": "p0", "reason": "budget_warn"},
        ),
        # loops that only warn or slow down
        ([2], [spec(loop_detection=loop("warn"))], ALLOW | {"policy_id": "p0", "loop_count": 0}),
        (
            [3],
            [spec(loop_detection=loop("warn"))],
            {"action": "allow", "reason": "loop_detected", "warning": "loop_warn", "loop_count": 3},
        ),
        (
            [7],
            [spec(loop_detection=loop("throttle"))],
            THROTTLE
            | {"reason": "loop_detected", "warning": "loop_warn", "loop_count": 7, "delay_ms": 700},
        ),
        ([1000], [spec(loop_detection=loop("throttle"))], THROTTLE | {"delay_ms": 30_000}),
        # shadow says nothing to clients
        (
            [3, 0],
            [spec(BUDGET, loop_detection=loop("warn"), mode="shadow")],
            ALLOW | {"warning": "", "limit": None, "delay_ms": 0, "loop_count": 0},
        ),
        (
            [-7, 5],
            [spec(BUDGET, mode="shadow"), spec(limit("token_bucket"))],
            {
                "action": "allow",
                "reason": "all_rules_passed",
                "would_reject": True,
                "mode": "shadow",
                "original_reason": "budget_exhausted",
                "original_retry_after_base": 7,
                "policy_id": "p0",
                "limit": 9,
                "remaining": 5,
            },
        ),
        (
            [-7, -9],
            [spec(BUDGET, mode="shadow"), spec(BUDGET, mode="shadow")],
            {"policy_id": "p0", "original_retry_after_base": 7},
        ),
    ],
)
def test_admitted(verdicts: list[Any], specs: list[dict[str, Any]], wanted: dict[str, Any]) -> None:
    _, decision = decide(verdicts, *specs)
    check(decision, wanted)


@pytest.mark.parametrize(
    ("verdicts", "specs", "wanted"),
    [
        (
            [-4],
            [spec(limit("token_bucket"))],
            {"reason": "rate_limit_exceeded", "retry_after_base": 4, "limit": 9, "rule_name": "r"},
        ),
        ([-4], [spec(limit("sliding_window"))], {"reason": "rate_limit_exceeded", "limit": 10}),
        ([-4], [spec(BUDGET)], {"reason": "budget_exhausted", "limit": 10}),
        (
            [[-4, 0]],
            [spec(limit("token_bucket_llm"))],
            {"reason": "tpm_exceeded", "limit": 60, "remaining_tokens": None},
        ),
        (
            [[-4, 1, 12]],
            [spec(limit("token_bucket_llm"))],
            {"reason": "tpd_exceeded", "limit": 1000, "remaining_tokens": 12},
        ),
        (
            [[-30, 3]],
            [spec(loop_detection=loop("reject"))],
            {"reason": "loop_detected", "retry_after_base": 30, "loop_count": 3, "limit": None},
        ),
        (
            [[-60, 0, 7 * M]],
            [spec(circuit_breaker=BREAKER)],
            {"reason": "circuit_breaker_open", "retry_after_base": 60, "spend_rate": 7.0},
        ),
        ([-4], [spec(limit("token_bucket", reject_status=503))], {"status": 503}),
        (
            [-7, -4],
            [spec(BUDGET, mode="shadow"), spec(limit("token_bucket"))],
            {"policy_id": "p1", "would_reject": True, "original_reason": "budget_exhausted"},
        ),
    ],
)
def test_refused(verdicts: list[Any], specs: list[dict[str, Any]], wanted: dict[str, Any]) -> None:
    outcome, decision = decide(verdicts, *specs)
    check(decision, {"action": "reject", "status": 429} | wanted)
    assert outcome.refused_at == len(verdicts) - 1
    assert decision.remaining == (None if decision.limit is None else 0)


@pytest.mark.parametrize(
    ("on_error", "mode", "wanted", "degraded"),
    [
        ("allow", "enforce", {"action": "allow", "degraded": "allow"}, ("p0", "allow")),
        ("local", "enforce", {"action": "allow", "degraded": "allow"}, ("p0", "allow")),
        (
            "reject",
            "enforce",
            {
                "action": "reject",
                "status": 503,
                "reason": "counter_unavailable",
                "retry_after_base": 1,
                "limit": None,
            },
            ("p0", "reject"),
        ),
        (
            "reject",
            "shadow",
            {"action": "allow", "would_reject": True, "original_reason": "counter_unavailable"},
            ("p0", "reject"),
        ),
    ],
)
def test_silent_owners(
    on_error: str, mode: str, wanted: dict[str, Any], degraded: tuple[str, str]
) -> None:
    outcome, decision = fold(evaluate(spec(limit("token_bucket", on_error=on_error), mode=mode)))
    check(decision, wanted)
    assert outcome.degraded == [degraded]


def test_a_silent_safeguard_lets_pass() -> None:
    outcome, decision = fold(evaluate(spec(loop_detection=loop("reject"), circuit_breaker=BREAKER)))
    check(decision, ALLOW | {"degraded": ""})
    assert outcome.degraded == []


def test_an_opening_breaker_is_noted() -> None:
    outcome, _ = decide([[-60, 1, 7 * M]], spec(circuit_breaker=BREAKER))
    assert [check.policy_id for check in outcome.tripped] == ["p0"]
    again, _ = decide([[-60, 0, 7 * M]], spec(circuit_breaker=BREAKER))
    assert again.tripped == []


@pytest.mark.parametrize(
    ("algorithm", "verdict", "fields"),
    [
        # quota, remaining, window, reset
        ("token_bucket", 5, (9, 5, 5, 1)),
        ("token_bucket", -4, (9, 0, 5, 4)),
        ("sliding_window", 5, (10, 5, 60, 60 - START % 60)),
        ("sliding_window", -4, (10, 0, 60, 4)),
        ("cost_based", 5_999_999, (10, 5, 3600, END_OF_HOUR)),
        ("cost_based", -END_OF_HOUR, (10, 0, 3600, END_OF_HOUR)),
        ("token_bucket_llm", [6, 900], (60, 6, 60, 1)),
        ("token_bucket_llm", [120, None], (60, 120, 60, 1)),  # a burst of twice the rate
        ("token_bucket_llm", [60, 3], (1000, 3, 86_400, MIDNIGHT)),
        ("token_bucket_llm", [-4, 0], (60, 0, 60, 4)),
        ("token_bucket_llm", [-MIDNIGHT, 1, 7], (1000, 7, 86_400, MIDNIGHT)),
    ],
)
def test_ratelimit_fields(algorithm: str, verdict: Any, fields: tuple[int, ...]) -> None:  # noqa: ANN401 - JSON
    _, decision = decide([verdict], spec(limit(algorithm)))
    shown = decision.fields
    assert shown is not None
    assert (shown.quota, shown.remaining, shown.window, shown.reset) == fields


def test_ratelimit_fields_of_a_burst_far_above_the_minute() -> None:
    wide = {"tokens_per_minute": 60, "burst_tokens": 10_000}
    _, decision = decide([[9_000, None]], spec(limit("token_bucket_llm", algorithm_config=wide)))
    shown = decision.fields
    assert shown is not None
    assert (shown.quota, shown.remaining) == (60, 9_000)
