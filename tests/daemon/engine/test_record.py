from typing import TYPE_CHECKING, Any

import orjson
import pytest

from daemon.engine.engine import NO_BUNDLE
from daemon.engine.record import Decided, decision_record, switch_scope, timestamp, tripped_records
from protocol.bundle import KillSwitch

if TYPE_CHECKING:
    from tests.daemon.conftest import Play

FIELDS = {
    "time", "event", "bundle_version", "bundle_hash", "action", "status", "mode", "would_reject",
    "reason", "original_reason", "policy_id", "rule_name", "matched_policies", "descriptors",
    "client_ip", "method", "path", "latency_us", "cost", "reserved", "limit", "remaining",
    "retry_after", "delay_ms", "kill_switch_scope", "kill_switch_reason", "loop_count",
    "fingerprint", "circuit_state", "spend_rate", "global_shadow", "kill_switch_override",
    "degraded",
}  # fmt: skip


def test_a_reject_names_who_what_and_why(play: "Play") -> None:
    box = play.box({"policies": [play.policy(play.rule("header:x-api-key"))]})
    request = play.ask("/a", {"x-api-key": "sk-canary"}, query="token=canary", method="POST")
    for _ in range(2):
        box.decide(request)
    decided = box.decide(request)
    record = decision_record(decided)
    assert record.keys() == FIELDS
    expected: dict[str, Any] = {
        "time": "2026-02-02T02:40:00.000Z",
        "bundle_version": 3,
        "action": "reject",
        "status": 429,
        "reason": "rate_limit_exceeded",
        "policy_id": "p",
        "rule_name": "r",
        "matched_policies": ["p"],
        "client_ip": "192.0.2.7",
        "method": "POST",
        "path": "/a",
        "latency_us": 42,
        "cost": 1,
        "limit": 2,
        "remaining": 0,
        "retry_after": decided.decision.retry_after,
        "circuit_state": None,
        "would_reject": False,
    }
    assert record.items() >= expected.items()
    assert b"canary" not in orjson.dumps(record)


def test_without_a_bundle_there_is_still_a_record(play: "Play") -> None:
    record = decision_record(Decided(NO_BUNDLE, play.ask("/x"), play.now, 1))
    assert record.keys() == FIELDS
    assert (record["reason"], record["client_ip"]) == ("no_bundle_loaded", "192.0.2.7")


def test_a_kill_switch_is_named_with_its_operators_reason(play: "Play") -> None:
    switches = [
        {"scope_key": "header:x-org", "scope_value": "other"},
        {"scope_key": "header:x-org", "scope_value": "o1", "reason": "incident 7"},
    ]
    box = play.box({"policies": [], "kill_switches": switches})
    record = decision_record(box.decide(play.ask("/x", {"x-org": "o1"})))
    assert record["kill_switch_scope"] == "header:x-org=o1"
    assert record["kill_switch_reason"] == "incident 7"
    assert record["descriptors"] == {"header:x-org": "o1"}


def test_a_kill_switch_on_a_credential_does_not_show_it(play: "Play") -> None:
    switch = {"scope_key": "header:authorization", "scope_value": "Bearer canary"}
    box = play.box({"policies": [], "kill_switches": [switch]})
    record = decision_record(box.decide(play.ask("/x", {"authorization": "Bearer canary"})))
    assert record["reason"] == "kill_switch_active"
    assert b"canary" not in orjson.dumps(record)
    assert "canary" not in switch_scope(KillSwitch("header:x-key", "canary"), b"k")


def test_a_would_be_reject_says_so(play: "Play") -> None:
    box = play.box({"policies": [play.policy(play.rule("ip:address"), mode="shadow")]})
    for _ in range(3):
        decided = box.decide(play.ask())
    record = decision_record(decided)
    assert (record["action"], record["status"], record["mode"]) == ("allow", 200, "shadow")
    assert (record["would_reject"], record["original_reason"]) == (True, "rate_limit_exceeded")


def test_override_flags_hold_while_they_are_in_force(play: "Play") -> None:
    block = {"enabled": True, "reason": "drill", "expires_at": "2026-02-02T02:50:00Z"}
    document = {"policies": [], "global_shadow": block, "kill_switch_override": block}
    box = play.box(document)
    within = decision_record(box.decide(play.ask(), play.now))
    after = decision_record(box.decide(play.ask(), play.now + 600_000_000))
    assert (within["global_shadow"], within["kill_switch_override"]) == (True, True)
    assert (after["global_shadow"], after["kill_switch_override"]) == (False, False)


def test_loops_show_their_count_and_fingerprint(play: "Play") -> None:
    loop = {"enabled": True, "window_seconds": 60, "threshold_identical_requests": 2}
    box = play.box({"policies": [play.policy(loop_detection=loop)]})
    box.decide(play.ask())
    record = decision_record(box.decide(play.ask()))
    other = decision_record(box.decide(play.ask("/other")))
    assert (record["reason"], record["loop_count"]) == ("loop_detected", 2)
    assert len(str(record["fingerprint"])) == 8
    assert record["fingerprint"] != other["fingerprint"]


@pytest.mark.parametrize("alert", [True, False])
def test_a_tripping_breaker_raises_an_event_once_if_asked_to(play: "Play", *, alert: bool) -> None:
    breaker = {"enabled": True, "spend_rate_threshold_per_minute": 3, "alert": alert}
    roomy = {"tokens_per_second": 100, "burst": 100}
    key = play.rule("header:x-api-key", algorithm_config=roomy)
    box = play.box({"policies": [play.policy(key, circuit_breaker=breaker)]})
    seen = [box.decide(play.ask(headers={"x-api-key": "canary"})) for _ in range(4)]
    records = [decision_record(each) for each in seen]
    assert [each["circuit_state"] for each in records] == ["closed", "closed", "open", "open"]
    assert records[2]["reason"] == "circuit_breaker_open"
    events = [event for each in seen for event in tripped_records(each)]
    assert len(events) == alert
    for event in events:
        assert event["event"] == "circuit_breaker_tripped"
        assert (event["policy_id"], event["spend_rate"], event["threshold"]) == ("p", 3, 3)
        assert b"canary" not in orjson.dumps(event)


def test_costs_are_in_the_limiters_units(play: "Play") -> None:
    config = {"tokens_per_minute": 10, "default_max_completion": 7}
    llm = play.rule("ip:address", algorithm="token_bucket_llm", algorithm_config=config)
    box = play.box({"policies": [play.policy(llm)]})
    allowed, refused = (decision_record(box.decide(play.ask())) for _ in range(2))
    assert (allowed["cost"], allowed["reserved"], refused["cost"]) == (7, 7, 7)
    priced = play.rule(
        "ip:address", algorithm_config={
            "tokens_per_second": 1, "burst": 9, "cost_source": "header:x-cost"
        }
    )  # fmt: skip
    box = play.box({"policies": [play.policy(priced)]})
    assert decision_record(box.decide(play.ask(headers={"x-cost": "2.5"})))["cost"] == 2.5


def test_a_shard_that_is_silent_shows(play: "Play") -> None:
    box = play.box({"policies": [play.policy(play.rule("ip:address", on_error="reject"))]})
    box.answers = False
    record = decision_record(box.decide(play.ask()))
    assert (record["reason"], record["degraded"]) == ("counter_unavailable", "reject")


def test_paths_and_names_are_bounded(play: "Play") -> None:
    box = play.box({"policies": [play.policy(play.rule("header:x-user"), name="p" * 5000)]})
    request = play.ask("/" + "a" * 100_000, {"x-user": "u" * 100_000}, method="M" * 1000)
    assert len(orjson.dumps(decision_record(box.decide(request)))) < 5000


def test_times_are_utc_with_milliseconds() -> None:
    assert timestamp(1_770_000_000_987_654) == "2026-02-02T02:40:00.987Z"
