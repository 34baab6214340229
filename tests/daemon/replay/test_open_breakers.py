"""What closes an open circuit breaker, and what does not (§2.7, §5.8)."""

import json
from pathlib import Path

from daemon.engine.sources import Sources
from daemon.replay import Replay, request_of
from protocol.bundle import MICRO, Bundle
from protocol.bundle_text import load

ROOT = Path(__file__).parents[3]
BREAKER = ROOT / "examples/policies/circuit-breaker/policy.json"
OPENED = 1_770_000_000
SOURCES = Sources(draw_id=lambda: bytes(16), shards=1)


def opened_breaker() -> Replay:
    replay = Replay(bundle("chat"), SOURCES)
    reasons = [ask(replay, OPENED, 2000) for _ in range(3)]
    assert reasons[-1] == "circuit_breaker_open"
    return replay


def bundle(policy_id: str, **breaker: object) -> Bundle:
    document = json.loads(BREAKER.read_text())
    (policy,) = document["policies"]
    policy["id"] = policy_id
    policy["spec"]["circuit_breaker"] |= {"auto_reset_after_minutes": 0} | breaker
    loaded = load(json.dumps(document).encode(), now=0.0).bundle
    assert loaded is not None
    return loaded


def ask(replay: Replay, at: int, tokens: int = 10) -> str:
    entry = {
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": {"X-Team": "search"},
        "body": {"max_tokens": tokens, "messages": []},
    }
    return replay.decide(request_of(entry, SOURCES), at * MICRO)[1].decision.reason


def test_a_breaker_without_reset_stays_open() -> None:
    replay = opened_breaker()
    assert ask(replay, OPENED + 30 * 86_400) == "circuit_breaker_open"
    replay.load(bundle("chat", spend_rate_threshold_per_minute=10**6))
    assert ask(replay, OPENED + 31 * 86_400) == "circuit_breaker_open"


def test_a_reload_with_a_reset_time_closes_it() -> None:
    replay = opened_breaker()
    replay.load(bundle("chat", auto_reset_after_minutes=5))
    assert ask(replay, OPENED + 299) == "circuit_breaker_open"
    assert ask(replay, OPENED + 300) == "all_rules_passed"


def test_another_policy_id_has_another_breaker() -> None:
    replay = opened_breaker()
    replay.load(bundle("chat-2"))
    assert ask(replay, OPENED + 1) == "all_rules_passed"


def test_a_reset_by_hand_closes_it_at_once() -> None:
    replay = opened_breaker()
    assert ask(replay, OPENED) == "circuit_breaker_open"
    replay.reset_breakers()
    assert [ask(replay, OPENED, 2000) for _ in range(3)] == [
        "all_rules_passed",
        "all_rules_passed",
        "circuit_breaker_open",
    ]
