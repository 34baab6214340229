"""`"reservation": "learned"` in simulated time: what is reserved, learned, and charged."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from daemon.engine.sources import Sources
from daemon.replay import Replay, request_of
from protocol.bundle import MICRO, Bundle
from protocol.bundle_text import load
from protocol.usage import Usage

NOW = 1_770_000_000 * MICRO
ENOUGH = 20
WORST = 1000


def bundle(version: int = 1, policy: str = "llm", **config: object) -> Bundle:
    settings = {"tokens_per_minute": 10**9, "reservation": "learned", **config}
    algorithm = "cost_based" if "budget" in settings else "token_bucket_llm"
    if algorithm == "cost_based":
        del settings["tokens_per_minute"]
        settings["staged_actions"] = [{"threshold_percent": 100, "action": "reject"}]
    rule = {
        "name": "tokens",
        "limit_keys": [],
        "algorithm": algorithm,
        "algorithm_config": settings,
    }
    spec = {"selector": {"pathPrefix": "/"}, "rules": [rule]}
    document = {
        "bundle_version": version,
        "model_prices": {"*": {"input_per_million": 0, "output_per_million": "1000000"}},
        "policies": [{"id": policy, "spec": spec}],
    }
    loaded = load(json.dumps(document).encode(), now=0.0)
    assert loaded.bundle is not None, loaded.errors
    return loaded.bundle


class Story:
    """A replay whose calls have no prompt, so that all they reserve is for the answer."""

    def __init__(self, loaded: Bundle) -> None:
        self.sources = Sources(draw_id=lambda: next(self._ids), shards=2)
        self._ids = (number.to_bytes(16, "big") for number in range(10_000))
        self.replay = Replay(loaded, self.sources)

    def ask(self, cap: int | None = None, model: str = "m", settle: Usage | None = None) -> int:
        """Return the tokens that a call reserved of a token limit, -1 if it was refused."""
        body: dict[str, Any] = {"model": model, "messages": []}
        if cap is not None:
            body["max_tokens"] = cap
        entry = {"method": "POST", "path": "/v1/chat/completions", "body": body}
        number, finished = self.replay.decide(request_of(entry, self.sources), NOW)
        if finished.decision.action == "reject":
            return -1
        if settle is not None:
            assert self.replay.settle(number, settle, NOW).settled
        return int(finished.decision.reserved or 0)

    def teach(self, completion: int, times: int = ENOUGH, model: str = "m") -> None:
        for _ in range(times):
            self.ask(model=model, settle=Usage(0, completion, completion))


@pytest.fixture(name="story")
def _story() -> Callable[..., Story]:
    return lambda **config: Story(bundle(**config))


def test_it_learns_from_settled_answers(story: Callable[..., Story]) -> None:
    told = story()
    told.teach(30, ENOUGH - 1)
    assert told.ask(settle=Usage(0, 30, 30)) == WORST
    assert told.ask() == 30


def test_it_is_off_by_default(story: Callable[..., Story]) -> None:
    told = story(reservation="worst_case")
    told.teach(30)
    assert told.ask() == WORST


def test_it_only_ever_lowers_a_reservation(story: Callable[..., Story]) -> None:
    told = story(default_max_completion=100)
    told.teach(5000)
    assert told.ask() == 100
    assert told.ask(cap=7) == 7
    assert told.ask(cap=9000) == 5000


def test_models_and_policies_learn_apart(story: Callable[..., Story]) -> None:
    told = story()
    told.teach(30)
    assert told.ask(model="other") == WORST
    told.replay.load(bundle(2, policy="another"))
    assert told.ask() == WORST


def test_what_is_known_outlives_a_new_bundle(story: Callable[..., Story]) -> None:
    told = story()
    told.teach(30)
    told.replay.load(bundle(2, tokens_per_minute=10**8))
    assert told.ask() == 30


@pytest.mark.parametrize("usage", [Usage(None, None, 30)])
def test_a_total_teaches_nothing(story: Callable[..., Story], usage: Usage) -> None:
    told = story()
    for _ in range(2 * ENOUGH):
        told.ask(settle=usage)
    assert told.ask() == WORST


def test_a_reservation_that_came_back_teaches_nothing(story: Callable[..., Story]) -> None:
    told = story()
    for _ in range(2 * ENOUGH):
        told.ask()
    for number in range(2 * ENOUGH):
        assert told.replay.settle(number, None, NOW).settled
    assert told.ask() == WORST


def test_limits_of_one_request_hold_the_worst_case(story: Callable[..., Story]) -> None:
    told = story(max_tokens_per_request=WORST)
    told.teach(30)
    assert told.ask() == 30
    assert told.ask(cap=WORST + 1) == -1


def test_an_overrun_is_charged_when_it_is_settled(story: Callable[..., Story]) -> None:
    told = story(tokens_per_minute=2000)
    told.teach(30, 60)  # leaves 200 of 2000
    assert told.ask(cap=WORST, settle=Usage(0, 900, 900)) == 30
    assert told.ask() == -1  # 700 in debt


@pytest.mark.parametrize("kind", ["llm:tokens", "llm:usd"])
def test_a_budget_learns_too(story: Callable[..., Story], kind: str) -> None:
    # A token costs a dollar here, so both budgets hold 1,600 tokens.
    told = story(budget=1600, period="1mo", cost_key=kind)
    told.teach(30)
    assert [bool(told.ask() + 1) for _ in range(34)] == [True] * 33 + [False]


def test_the_breaker_counts_the_worst_case() -> None:
    document = {
        "bundle_version": 1,
        "policies": [
            {
                "id": "llm",
                "spec": {
                    "selector": {"pathPrefix": "/"},
                    "rules": [
                        {
                            "name": "tokens",
                            "limit_keys": [],
                            "algorithm": "token_bucket_llm",
                            "algorithm_config": {
                                "tokens_per_minute": 10**9,
                                "reservation": "learned",
                            },
                        }
                    ],
                    "circuit_breaker": {
                        "enabled": True,
                        "spend_rate_threshold_per_minute": WORST * (ENOUGH + 2),
                    },
                },
            }
        ],
    }
    loaded = load(json.dumps(document).encode(), now=0.0).bundle
    assert loaded is not None
    told = Story(loaded)
    told.teach(30)
    assert [told.ask(), told.ask()] == [30, -1]
