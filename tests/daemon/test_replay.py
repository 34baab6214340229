"""One daemon in a box (§16.1): what the property tests do not ask of it."""

from typing import Any

import pytest

from daemon.engine.client_address import TrustedProxies
from daemon.engine.sources import Sources
from daemon.llm.usage import of_counts
from daemon.replay import Replay, Settled, request_of
from protocol.usage import Usage
from tests.properties.bundles import START, compiled

M = 1_000_000
NOW = START * M
LLM = {"tokens_per_minute": 600, "default_max_completion": 10}


def sources(shards: int = 3) -> Sources:
    ids = iter(range(1, 100))
    return Sources(draw_id=lambda: next(ids).to_bytes(16), shards=shards)


def document(*rules: dict[str, Any]) -> dict[str, Any]:
    spec = {"selector": {"pathPrefix": "/"}, "rules": list(rules)}
    return {"bundle_version": 1, "policies": [{"id": "p", "spec": spec}]}


def rule(name: str, algorithm: str = "token_bucket_llm", **config: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"name": name, "limit_keys": [], "algorithm": algorithm, "algorithm_config": config}


TOKENS = rule(
    "budget",
    "cost_based",
    budget=100,
    period="1d",
    cost_key="llm:tokens",
    default_max_completion=7,
    staged_actions=[{"threshold_percent": 100, "action": "reject"}],
)


def test_without_a_bundle_everything_is_refused() -> None:
    replay = Replay(None, sources())
    number, finished = replay.decide(request_of({}, sources()), NOW)
    assert (finished.decision.reason, finished.decision.status) == ("no_bundle_loaded", 503)
    assert replay.settle(number, None, NOW) == Settled(settled=False)


@pytest.mark.parametrize(
    ("rules", "usage", "refunded", "overrun"),
    [
        ([rule("llm", **LLM)], of_counts(1, 2, None), 7, 0),
        ([rule("llm", **LLM)], of_counts(None, None, 25), 0, 15),
        ([rule("llm", **LLM)], of_counts(None, None, 10), 0, 0),
        ([rule("llm", **LLM)], None, 10, 0),
        ([TOKENS], of_counts(1, 2, None), 4, 0),
        (
            [TOKENS, rule("llm", **LLM)],
            of_counts(1, 2, None),
            7,
            0,
        ),  # in tokens where there are any
    ],
)
def test_settlements(
    rules: list[dict[str, Any]], usage: Usage | None, refunded: int, overrun: int
) -> None:
    replay = Replay(compiled(document(*rules)), sources())
    number, finished = replay.decide(request_of({}, sources()), NOW)
    assert finished.decision.reservation
    wanted = Settled(settled=True, refunded=refunded, overrun=overrun)
    assert replay.settle(number, usage, NOW) == wanted
    assert replay.settle(number, usage, NOW) == Settled(settled=False)


def test_a_settlement_goes_by_the_rules_of_its_request() -> None:
    replay = Replay(
        compiled(
            document(rule("a", "token_bucket", tokens_per_second=1, burst=9), rule("llm", **LLM))
        ),
        sources(),
    )
    number, _ = replay.decide(request_of({}, sources()), NOW)
    replay.load(compiled(document()))
    usage = of_counts(None, None, 4)
    assert replay.settle(number, usage, NOW) == Settled(settled=True, refunded=6)


def test_a_huge_settlement_is_a_debt_and_nothing_worse() -> None:
    replay = Replay(compiled(document(rule("llm", **LLM), TOKENS)), sources())
    number, _ = replay.decide(request_of({}, sources()), NOW)
    assert replay.settle(number, of_counts(2**53, 2**53, None), NOW).overrun == 2**54 - 10
    _, finished = replay.decide(request_of({}, sources()), NOW)
    assert finished.decision.reason == "tpm_exceeded"
    assert finished.decision.retry_after_base > 10**12


def test_a_lone_surrogate_reaches_its_counter() -> None:
    per_model = rule("m", "token_bucket", tokens_per_second=1, burst=1) | {
        "limit_keys": ["llm:model"]
    }
    replay = Replay(compiled(document(per_model)), sources())
    entry = {"body": '{"model":"\\ud800"}', "method": "POST", "path": "/v1/chat/completions"}
    actions = [replay.decide(request_of(entry, sources()), NOW)[1].decision.action for _ in "12"]
    assert actions == ["allow", "reject"]


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ({}, {"method": "GET", "path": "/", "query": "", "body": b"", "peer": "", "headers": {}}),
        ({"path": "/a?b=1", "query": "c=2"}, {"path": "/a", "query": "b=1&c=2"}),
        ({"query": {"a b": "c&d"}}, {"query": "a+b=c%26d"}),
        ({"headers": {"X_Api-Key": 7}}, {"headers": {b"x-api-key": b"7"}}),
        ({"headers": {"A": "1", "a": "2"}}, {"headers": {b"a": b"1"}}),
        ({"body": {"a": 1}}, {"body": b'{"a":1}'}),
        ({"body": "text"}, {"body": b"text"}),
        ({"ip": "192.0.2.1"}, {"peer": "192.0.2.1", "trusted": False}),
        ({"ip": "10.0.0.1"}, {"trusted": True}),
        ({"jwt": {}}, {"headers": {b"authorization": b"Bearer eyJhbGciOiJub25lIn0.e30."}}),
    ],
)
def test_requests(entry: dict[str, Any], wanted: dict[str, Any]) -> None:
    around = Sources(draw_id=lambda: bytes(16), trusted=TrustedProxies.parse("10.0.0.0/8"))
    request = request_of(entry, around)
    assert {name: getattr(request, name) for name in wanted} == wanted
