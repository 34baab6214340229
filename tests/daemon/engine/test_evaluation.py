"""What is asked of which shard, and what must be taken back once all have spoken (§5.2, §13.3)."""

from typing import Any

import pytest

from daemon.engine.engine import Engine
from daemon.engine.evaluation import Evaluation
from daemon.engine.outcome import fold
from daemon.engine.sources import Sources
from daemon.replay import request_of
from protocol.decision import Decision
from tests.properties.bundles import START, compiled

NOW = START * 1_000_000
AT = NOW + 5
STAGES = [{"threshold_percent": 100, "action": "reject"}]
LOOP = {"enabled": True, "window_seconds": 9, "threshold_identical_requests": 9}
# With three shards "a" lives on shard 0 and "b" on shard 2.
A, B = 0, 2


def rule(name: str, key: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    config = {"tokens_per_second": 1, "burst": 9}
    return {"name": name, "limit_keys": [f"header:{key}"], "algorithm": "token_bucket",
            "algorithm_config": config} | more  # fmt: skip


def llm(name: str, key: str) -> dict[str, Any]:
    config = {"tokens_per_minute": 60, "default_max_completion": 9}
    return rule(name, key, algorithm="token_bucket_llm", algorithm_config=config)


def begin(*policies: dict[str, Any], shards: int = 3) -> Evaluation:
    document = {
        "bundle_version": 1,
        "policies": [
            {"id": f"p{number}", "spec": {"selector": {"pathPrefix": "/"}} | spec}
            for number, spec in enumerate(policies)
        ],
    }
    sources = Sources(draw_id=lambda: b"r" * 16, shards=shards)
    engine = Engine(compiled(document), sources)
    begun = engine.begin(request_of({"path": "/", "headers": {"a": "a", "b": "b"}}, sources), NOW)
    assert not isinstance(begun, Decision)
    return begun


def undone(
    evaluation: Evaluation, replies: dict[int, object]
) -> dict[int, list[tuple[object, ...]]]:
    """Return (rule name or kind, how, reservation) of what is taken back, by shard."""
    for shard, reply in replies.items():
        evaluation.reply(shard, AT, reply)
    outcome, _ = fold(evaluation)
    return shown(evaluation, outcome.refused_at)


def shown(evaluation: Evaluation, refused_at: int | None) -> dict[int, list[tuple[object, ...]]]:
    names = {check.number: check.name or check.kind for check in evaluation.checks}
    found = {}
    for shard, undos in evaluation.undos(refused_at).items():
        assert all(undo[3] == AT for undo in undos)
        found[shard] = [(names[undo[0]], undo[4], undo[5]) for undo in undos]  # type: ignore[index]
    return found


def test_operations_go_to_their_owners_in_order() -> None:
    begun = begin({"rules": [rule("x", "a"), rule("y", "b"), rule("z", "a")]})
    assert {shard: len(part) // 3 for shard, part in begun.parts.items()} == {A: 2, B: 1}
    assert begun.places == [(A, 0), (B, 0), (A, 1)]
    assert begun.reservation == b""


def test_a_loop_stands_beside_the_first_rules_counter() -> None:
    begun = begin({"rules": [rule("x", "b")], "loop_detection": LOOP})
    assert list(begun.parts) == [B]


def test_a_reservation_goes_to_every_part() -> None:
    begun = begin({"rules": [llm("x", "a"), rule("y", "b")]})
    assert [part[0] for part in begun.parts.values()] == [b"r" * 16] * 2
    begun.reply(A, AT, [51, None])
    begun.reply(B, AT, 8)
    assert begun.verdict(0) == [51, None]
    assert begun.verdict(1) == 8


def test_a_known_refusal_is_told_to_those_who_were_asked_before_it() -> None:
    missing = rule("m", "gone", on_missing="reject")
    begun = begin({"rules": [rule("x", "a"), missing, rule("y", "b")]})
    assert list(begun.parts) == [A]
    refuse = begun.checks[1].refuse
    assert begun.parts[A][3:] == [refuse, "", 0]
    assert undone(begun, {A: [8, -1]}) == {}


@pytest.mark.parametrize(
    ("replies", "undos"),
    [
        ({A: [8, 7], B: 8}, {}),
        # one shard puts back its own; the other is told
        ({A: [8, 7], B: -3}, {A: [("x", None, b""), ("z", 7, b"")]}),
        ({A: [-3, None], B: 8}, {B: [("y", 8, b"")]}),
        ({A: [8, -3], B: 8}, {B: [("y", None, b"")]}),
        ({A: [8, -3], B: -3}, {A: [("z", -3, b"")]}),
        # silence: on_error allow
        ({A: [8, 7]}, {}),
        ({B: -3}, {}),
        ({}, {}),
    ],
)
def test_enforcing(replies: dict[int, object], undos: dict[int, object]) -> None:
    begun = begin({"rules": [rule("x", "a"), rule("y", "b"), rule("z", "a")]})
    assert undone(begun, replies) == undos


@pytest.mark.parametrize(
    ("replies", "undos"),
    [
        ({A: [8, 8], B: [8, 8]}, {}),
        # the shadow policy stops on B: on A its charge before that is given back, and nothing else
        ({A: [8, 8], B: [-3, 8]}, {A: [("x", None, b"")]}),
        # it stops on A: on B what came later should never have been asked
        ({A: [-3, 8], B: [8, 8]}, {B: [("y", 8, b"")]}),
        # an enforcing refusal takes all of it
        ({A: [8, -3], B: [8, 8]}, {B: [("y", None, b""), ("w", 8, b"")]}),
        ({A: [8, 8], B: [8, -3]}, {A: [("x", None, b""), ("z", None, b"")]}),
        ({A: [8, 8], B: [-3, -3]}, {A: [("x", None, b""), ("z", None, b"")]}),
    ],
)
def test_shadow_before_enforce(replies: dict[int, object], undos: dict[int, object]) -> None:
    shadow = {"mode": "shadow", "rules": [rule("x", "a"), rule("y", "b")]}
    begun = begin(shadow, {"rules": [rule("z", "a"), rule("w", "b")]})
    assert undone(begun, replies) == undos


def test_loops_that_were_reached_stay_and_others_go() -> None:
    begun = begin(
        {"rules": [rule("x", "a")], "loop_detection": LOOP},
        {"rules": [rule("y", "b")]},
        {"rules": [rule("z", "a")], "loop_detection": LOOP},
    )
    assert undone(begun, {A: [1, 8, 1, 7], B: -3}) == {
        A: [("x", None, b""), ("loop", 1, b""), ("z", 7, b"")]
    }


def test_a_breaker_that_should_not_have_been_asked_is_closed_again() -> None:
    breaker = {"enabled": True, "spend_rate_threshold_per_minute": 5}
    begun = begin(
        {"rules": [rule("y", "b")]}, {"rules": [rule("x", "a")], "circuit_breaker": breaker}
    )
    opened = [-60, 1, 5_000_000]
    assert undone(begun, {A: [opened, None], B: -3}) == {A: [("breaker", opened, b"")]}


def test_reservations_of_what_is_taken_back_are_named() -> None:
    begun = begin({"rules": [llm("x", "a"), rule("z", "a"), rule("y", "b")]})
    found = undone(begun, {A: [[51, None], 8], B: -3})
    assert found == {A: [("x", None, b"r" * 16), ("z", None, b"")]}


REJECT = {"on_error": "reject"}


@pytest.mark.parametrize("shards", [1, 3])
def test_what_comes_too_late_for_a_refused_request_goes(shards: int) -> None:
    begun = begin({"rules": [rule("x", "a", **REJECT)]}, shards=shards)
    outcome, decision = fold(begun)
    assert (decision.reason, decision.status) == ("counter_unavailable", 503)
    assert begun.undos(outcome.refused_at) == {}
    (shard,) = begun.parts
    begun.reply(shard, AT, 8)
    assert shown(begun, outcome.refused_at) == {shard: [("x", None, b"")]}
    begun.reply(shard, AT, -3)  # or it refused by itself
    assert shown(begun, outcome.refused_at) == {}


def test_a_silent_owner_stops_a_shadow_policy_for_good() -> None:
    shadow = {"mode": "shadow", "rules": [rule("x", "a"), rule("y", "b", **REJECT), rule("z", "a")]}
    begun = begin(shadow)
    assert undone(begun, {A: [8, 7]}) == {A: [("x", None, b""), ("z", 7, b"")]}
    begun.reply(B, AT, 8)
    assert shown(begun, None)[B] == [("y", None, b"")]


def test_a_late_refusal_changes_no_decision() -> None:
    begun = begin({"rules": [rule("x", "a"), rule("y", "b")]})
    assert undone(begun, {A: 8}) == {}
    begun.reply(B, AT, -3)
    assert shown(begun, None) == {}


@pytest.mark.parametrize(
    ("replies", "places"),
    [
        ({A: [51, None], B: [51, None]}, 2),
        ({A: [51, None]}, 1),
        ({A: [-3, 0], B: [51, None]}, 1),
        ({}, 0),
    ],
)
def test_where_a_reservation_is_held(replies: dict[int, list[int]], places: int) -> None:
    shadow = {"mode": "shadow", "rules": [llm("x", "a")]}
    begun = begin(shadow, {"rules": [llm("y", "b")]})
    undone(begun, replies)
    assert len(begun.reserved_places()) == places
