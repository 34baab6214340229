import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.engine.context import Context
from daemon.engine.costs import CostCompiler
from daemon.engine.sources import Sources, no_prices
from protocol.amounts import MAX_COST
from protocol.request import Request
from tests.properties.bundles import compiled
from tests.properties.profiles import profile

M = 1_000_000
STAGES = [{"threshold_percent": 100, "action": "reject"}]
PRICES = {"gpt-*": {"input_per_million": "2", "output_per_million": 8}}
BODY: dict[str, Any] = {"model": "gpt-x", "messages": [{"content": "x" * 40}]}


def rule(algorithm: str, config: dict[str, Any], **more: object) -> dict[str, Any]:
    base = {"cost_based": {"budget": 5, "period": "1d", "staged_actions": STAGES},
            "token_bucket": {"tokens_per_second": 1, "burst": 5},
            "token_bucket_llm": {"tokens_per_minute": 60}}[algorithm]  # fmt: skip
    return {"name": "r", "limit_keys": [], "algorithm": algorithm,
            "algorithm_config": base | config} | more  # fmt: skip


def costs(
    rule: dict[str, Any], headers: dict[bytes, bytes], query: str, body: bytes
) -> list[object]:
    """Return what the rule charges and what a breaker would count."""
    spec = {"selector": {"pathPrefix": "/"}, "rules": [rule]}
    bundle = compiled(
        {"bundle_version": 1, "policies": [{"id": "p", "spec": spec}], "model_prices": PRICES}
    )
    compiler = CostCompiler(bundle, no_prices)
    request = Request("POST", "/v1/chat/completions", headers, query, body=body)
    context = Context(request, Sources(draw_id=lambda: bytes(16)), lambda *_: None, 0)
    cost = compiler.of(bundle.policies[0].rules[0])
    spend = compiler.spend(bundle.policies[0].rules[0])
    return [cost if isinstance(cost, int) else cost(context), spend(context)]


def read(
    rule: dict[str, Any], headers: dict[bytes, bytes], query: str, **body: object
) -> list[object]:
    return costs(rule, headers, query, json.dumps(BODY | body).encode())


HEADER = {"cost_source": "header:weight", "default_cost": 3}
QUERY = {"cost_source": "query:weight"}


@pytest.mark.parametrize(
    ("config", "headers", "query", "cost"),
    [
        ({}, {}, "", M),
        ({"fixed_cost": 2.5, "default_cost": 7}, {b"weight": b"9"}, "", 2_500_000),
        (HEADER, {b"weight": b"1.5"}, "", 1_500_000),
        (HEADER, {}, "weight=2", 3 * M),
        (HEADER, {b"weight": b"-1"}, "", 3 * M),
        (HEADER, {b"weight": b"0"}, "", 3 * M),
        (HEADER, {b"weight": b"nan"}, "", 3 * M),
        (HEADER, {b"weight": b"1e300"}, "", MAX_COST),
        (QUERY, {}, "weight=%32", 2 * M),
        (QUERY, {}, "weight=x&weight=2", M),
    ],
)
def test_plain_costs(
    config: dict[str, Any], headers: dict[bytes, bytes], query: str, cost: int
) -> None:
    assert read(rule("token_bucket", config), headers, query) == [cost, cost]


HUGE = 2**60


@pytest.mark.parametrize(
    ("config", "body", "cost", "spend"),
    [
        ({}, {}, 1010, 1010 * M),
        ({"default_max_completion": 5}, {}, 15, 15 * M),
        ({}, {"max_tokens": 7}, 17, 17 * M),
        ({"max_completion_tokens": 4}, {"max_tokens": 7}, 14, 14 * M),
        ({"max_prompt_tokens": 10}, {"max_tokens": 7}, 17, 17 * M),
        ({"max_prompt_tokens": 9}, {"max_tokens": 7}, "prompt_tokens_exceeded", 17 * M),
        ({"max_tokens_per_request": 17}, {"max_tokens": 7}, 17, 17 * M),
        (
            {"max_tokens_per_request": 16},
            {"max_tokens": 7},
            "max_tokens_per_request_exceeded",
            17 * M,
        ),
        ({}, {"max_tokens": HUGE}, 2**53 + 10, MAX_COST),
    ],
)
def test_llm_limits(config: dict[str, Any], body: dict[str, Any], cost: object, spend: int) -> None:
    assert read(rule("token_bucket_llm", config), {}, "", **body) == [cost, spend]


@pytest.mark.parametrize(
    ("body", "cost"),
    [({"max_tokens": 7}, 17 * M), ({}, 1010 * M), ({"max_tokens": HUGE}, MAX_COST)],
)
def test_token_budgets(body: dict[str, Any], cost: int) -> None:
    assert read(rule("cost_based", {"cost_key": "llm:tokens"}), {}, "", **body) == [cost, cost]


@pytest.mark.parametrize(
    ("unknown", "body", "cost", "spend"),
    [
        ("default_cost", {"max_tokens": 7}, 10 * 2 + 7 * 8, 76),
        ("default_cost", {"max_tokens": 7, "model": "other"}, 3 * M, 3 * M),
        ("reject", {"max_tokens": 7, "model": "other"}, "unknown_model", 3 * M),
        ("reject", {"max_tokens": 7, "model": None}, "unknown_model", 3 * M),
        ("reject", {"max_tokens": HUGE}, 2**53 * 8 + 20, 2**53 * 8 + 20),
    ],
)
def test_dollars(unknown: str, body: dict[str, Any], cost: object, spend: int) -> None:
    config = {"cost_key": "llm:usd", "default_cost": 3}
    found, spent = read(rule("cost_based", config, unknown_model=unknown), {}, "", **body)
    assert (found[0] if isinstance(found, list) else found) == cost
    assert spent == spend


@profile(examples=60)
@given(
    config=st.sampled_from([HEADER, QUERY]),
    weight=st.binary(max_size=70),
    query=st.text(max_size=40).map(lambda text: "weight=" + text),
    body=st.binary(max_size=60) | st.sampled_from([b'{"max_tokens":1e400}', b'{"max_tokens":-1}']),
)
def test_any_header_query_and_body(
    config: dict[str, Any], weight: bytes, query: str, body: bytes
) -> None:
    headers = {b"weight": weight, b"x-token-estimate": weight}
    for limit in (rule("token_bucket", config), rule("token_bucket_llm", {}),
                  rule("cost_based", {"cost_key": "llm:usd"})):  # fmt: skip
        found, spent = costs(limit, headers, query, body)
        amount = found[0] if isinstance(found, list) else found
        assert isinstance(amount, int)
        assert 0 < amount <= MAX_COST
        assert isinstance(spent, int)
        assert 0 < spent <= MAX_COST
