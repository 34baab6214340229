"""The rule table: what names a counter, and so what a reload keeps (§2.7, §4.5)."""

import json
from typing import Any

import pytest

from daemon.engine.compile import compile_bundle
from daemon.engine.costs import CostCompiler
from daemon.engine.sources import no_prices
from protocol.operations import RuleSpec
from tests.properties.bundles import compiled, shadow_until

STAGES = [{"threshold_percent": 100, "action": "reject"}]
CONFIGS: dict[str, dict[str, Any]] = {
    "token_bucket": {"tokens_per_second": 1, "burst": 5},
    "sliding_window": {"limit": 5, "window_seconds": 10},
    "cost_based": {"budget": 5, "period": "1d", "staged_actions": STAGES},
    "token_bucket_llm": {"tokens_per_minute": 60},
}


def document(algorithm: str, *, policy: str = "p", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    config = CONFIGS[algorithm] | more.pop("config", {})
    rule = {"name": "r", "limit_keys": ["header:a"], "algorithm": algorithm,
            "algorithm_config": config} | more.pop("rule", {})  # fmt: skip
    spec = {"selector": {"pathPrefix": "/"}, "rules": [rule]} | more.pop("spec", {})
    return {"bundle_version": 1, "policies": [{"id": policy, "spec": spec}]} | more


def table(document: dict[str, Any]) -> tuple[RuleSpec, ...]:
    bundle = compiled(document)
    return compile_bundle(bundle, CostCompiler(bundle, no_prices)).table


def identity(document: dict[str, Any]) -> str:
    kinds = {spec.kind: spec.identity for spec in table(document)}
    return kinds[document["policies"][0]["spec"]["rules"][0]["algorithm"]]


@pytest.mark.parametrize(
    ("algorithm", "config"),
    [
        ("token_bucket", {"tokens_per_second": 2.5, "burst": 50}),
        ("token_bucket", {"tokens_per_second": 0.001}),
        ("token_bucket", {"cost_source": "header:weight"}),
        ("sliding_window", {"limit": 0.5}),
        ("cost_based", {"budget": 1, "cost_key": "query:cost"}),
        ("token_bucket_llm", {"tokens_per_minute": 7, "burst_tokens": 70}),
        ("token_bucket_llm", {"tokens_per_day": 7, "max_prompt_tokens": 3}),
    ],
)
def test_a_change_of_limits_keeps_the_counters(algorithm: str, config: dict[str, Any]) -> None:
    assert identity(document(algorithm)) == identity(document(algorithm, config=config))


@pytest.mark.parametrize(
    ("algorithm", "change"),
    [
        ("token_bucket", {"policy": "q"}),
        ("token_bucket", {"rule": {"name": "s"}}),
        ("token_bucket", {"rule": {"limit_keys": ["header:b"]}}),
        ("token_bucket", {"rule": {"limit_keys": ["header:a", "header:b"]}}),
        ("token_bucket", {"spec": {"mode": "shadow"}}),
        ("sliding_window", {"config": {"window_seconds": 11}}),
        ("cost_based", {"config": {"period": "7d"}}),
        ("cost_based", {"config": {"timezone": "Europe/Berlin"}}),
        ("cost_based", {"config": {"cost_key": "llm:tokens"}}),
    ],
)
def test_another_shape_starts_fresh(algorithm: str, change: dict[str, Any]) -> None:
    assert identity(document(algorithm)) != identity(document(algorithm, **change))


def test_names_cannot_be_spelled_to_meet() -> None:
    one = document("token_bucket", policy="p", rule={"name": "a:b"})
    other = document("token_bucket", policy="p:a", rule={"name": "b"})
    assert identity(one) != identity(other)


SAFEGUARDS = {
    "loop_detection": {"enabled": True, "window_seconds": 5, "threshold_identical_requests": 3},
    "circuit_breaker": {"enabled": True, "spend_rate_threshold_per_minute": 3},
}


def test_equal_bundles_give_equal_tables() -> None:
    wanted = document("cost_based", spec=SAFEGUARDS)
    assert table(wanted) == table(json.loads(json.dumps(wanted)))
    assert [spec.kind for spec in table(wanted)] == ["refuse", "loop", "breaker", "cost_based"]


@pytest.mark.parametrize(
    ("mode", "modes"), [("enforce", ["enforce", "shadow"]), ("shadow", ["shadow"])]
)
def test_global_shadow_adds_what_is_not_in_shadow_yet(mode: str, modes: list[str]) -> None:
    wanted = document(
        "token_bucket", spec={"mode": mode}, global_shadow=shadow_until(2_000_000_000)
    )
    buckets = [spec for spec in table(wanted) if spec.kind == "token_bucket"]
    assert [spec.identity.partition(":")[0] for spec in buckets] == modes
    assert [spec.shadow for spec in buckets] == [mode == "shadow" for mode in modes]
    assert len({spec.segment for spec in buckets}) == len(modes)


@pytest.mark.parametrize(
    ("rate", "wire"),
    [(10, (10_000, 1000)), (0.5, (500, 1000)), (0.3333, (333_300, 10**6)), (1e-9, (1, 10**9))],
)
def test_rates_share_a_unit(rate: float, wire: tuple[int, int]) -> None:
    config = {"tokens_per_second": rate, "burst": 10}
    params = table(document("token_bucket", config=config))[-1].params
    assert (params["rate_num"], params["rate_den"]) == wire
