"""The order of §5.1, kill switches (§6), overrides (§2.2) and the loop fingerprint (§5.7)."""

from typing import Any

import pytest

from daemon.engine.engine import Engine
from daemon.engine.evaluation import Evaluation
from daemon.engine.sources import Sources
from daemon.replay import request_of
from protocol.decision import Decision
from protocol.request import Request
from tests.properties.bundles import START, compiled, shadow_until

M = 1_000_000
NOW = START * M
RULE = {
    "name": "r",
    "limit_keys": ["header:org"],
    "algorithm": "token_bucket",
    "algorithm_config": {"tokens_per_second": 1, "burst": 9},
}
LOOP = {"enabled": True, "window_seconds": 9, "threshold_identical_requests": 9}
POLICY = {"id": "p", "spec": {"selector": {"pathPrefix": "/v1"}, "rules": [RULE]}}
SWITCH = {"scope_key": "header:org", "scope_value": "bad"}
JWT = {"required": True, "keys": [{"id": "k", "algorithm": "HS256", "secret": "s" * 32}]}


def begin(entry: dict[str, Any], now: int = NOW, **document: Any) -> Decision | Evaluation:  # noqa: ANN401 - JSON
    sources = Sources(draw_id=lambda: bytes(16))
    bundle = compiled({"bundle_version": 1, "policies": [POLICY]} | document)
    return Engine(bundle, sources).begin(request_of({"path": "/v1/x"} | entry, sources), now)


def reason(begun: Decision | Evaluation) -> str:
    return begun.reason if isinstance(begun, Decision) else "asked"


BAD = {"headers": {"org": "bad"}}


@pytest.mark.parametrize(
    ("entry", "document", "wanted"),
    [
        ({}, {}, "asked"),
        ({"path": "/v2"}, {}, "no_matching_policy"),
        ({}, {"policies": []}, "no_matching_policy"),
        (BAD, {"kill_switches": [SWITCH]}, "kill_switch_active"),
        (BAD | {"path": "/v2"}, {"kill_switches": [SWITCH]}, "kill_switch_active"),
        ({"headers": {"org": "good"}}, {"kill_switches": [SWITCH]}, "asked"),
        ({}, {"kill_switches": [SWITCH]}, "asked"),
        # before the token, and whatever the shadow says
        (BAD, {"kill_switches": [SWITCH], "jwt": JWT}, "kill_switch_active"),
        ({}, {"kill_switches": [SWITCH], "jwt": JWT}, "invalid_token"),
        ({"path": "/v2"}, {"jwt": JWT}, "invalid_token"),
        (
            BAD,
            {"kill_switches": [SWITCH], "global_shadow": shadow_until(START + 9)},
            "kill_switch_active",
        ),
        (
            BAD,
            {"kill_switches": [SWITCH], "kill_switch_override": shadow_until(START + 1)},
            "asked",
        ),
        # routes, as sent and in normal form
        (BAD, {"kill_switches": [SWITCH | {"route": "/v1/x"}]}, "kill_switch_active"),
        (
            BAD | {"path": "/v1//%78"},
            {"kill_switches": [SWITCH | {"route": "/v1/x"}]},
            "kill_switch_active",
        ),
        (BAD, {"kill_switches": [SWITCH | {"route": "/v1"}]}, "asked"),
        # only the past is over
        (BAD, {"kill_switches": [SWITCH | {"expires_at": "2020-01-01T00:00:00Z"}]}, "asked"),
        (
            BAD,
            {"kill_switches": [SWITCH | {"expires_at": "2030-01-01T00:00:00Z"}]},
            "kill_switch_active",
        ),
        (BAD, {"kill_switches": [SWITCH | {"scope_value": "x"}, SWITCH]}, "kill_switch_active"),
    ],
)
def test_order(entry: dict[str, Any], document: dict[str, Any], wanted: str) -> None:
    assert reason(begin(entry, **document)) == wanted


@pytest.mark.parametrize(
    ("after", "wanted"), [(0, "asked"), (M - 1, "asked"), (M, "kill_switch_active")]
)
def test_an_override_ends_by_itself(after: int, wanted: str) -> None:
    override = shadow_until(START + 1)
    found = begin(BAD, NOW + after, kill_switches=[SWITCH], kill_switch_override=override)
    assert reason(found) == wanted


@pytest.mark.parametrize(("after", "wanted"), [(0, True), (M, True), (M + 1, False)])
def test_a_kill_switch_lives_through_its_last_second(after: int, *, wanted: bool) -> None:
    ends = shadow_until(START + 1)["expires_at"]
    found = begin(BAD, NOW + after, kill_switches=[SWITCH | {"expires_at": ends}])
    assert (reason(found) == "kill_switch_active") == wanted


def test_a_kill_switch_tells_nothing_but_when_to_come_back() -> None:
    found = begin(BAD, kill_switches=[SWITCH | {"reason": "for operators"}])
    assert isinstance(found, Decision)
    assert (found.status, found.retry_after_base, found.policy_id) == (429, 3600, None)
    assert 3600 <= found.retry_after <= 5400


@pytest.mark.parametrize(("after", "shadow"), [(0, True), (M - 1, True), (M, False)])
def test_global_shadow_ends_by_itself(after: int, *, shadow: bool) -> None:
    found = begin({"headers": {"org": "a"}}, NOW + after, global_shadow=shadow_until(START + 1))
    assert isinstance(found, Evaluation)
    assert [check.shadow for check in found.checks] == [shadow]


OTHER_RULE = RULE | {"name": "s", "limit_keys": ["header:user"], "match": {"header:tier": "x"}}
LOOPED = {
    "id": "p",
    "spec": {"selector": {"pathPrefix": "/"}, "rules": [RULE, OTHER_RULE], "loop_detection": LOOP},
}


def fingerprint(**changes: Any) -> object:  # noqa: ANN401 - JSON
    headers = changes.pop("headers", {b"org": b"a"})
    values = {"method": "POST", "path": "/", "query": "x=1&y=2", "body": b"b", "headers": headers}
    sources = Sources(draw_id=lambda: bytes(16))
    engine = Engine(compiled({"bundle_version": 1, "policies": [LOOPED]}), sources)
    begun = engine.begin(Request(**(values | changes)), NOW)
    assert isinstance(begun, Evaluation)
    assert isinstance(begun.keys[0], bytes)
    assert len(begun.keys[0]) == 16 + 4  # where it lives stands behind it
    return begun.keys[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"query": "y=2&x=1"},
        {"headers": {b"org": b"a", b"x-request-id": b"7"}},
        {"headers": {b"org": b"a", b"tier": b"x"}},  # matched on, but no limit key
        {"host": "other"},
    ],
)
def test_identical(changes: dict[str, Any]) -> None:
    assert fingerprint(**changes) == fingerprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "PUT"},
        {"path": "//"},
        {"query": "x=1&y=2&y=2"},
        {"query": "x=1y=2"},
        {"body": b"c"},
        {"body": b""},
        {"headers": {}},
        {"headers": {b"org": b"b"}},
        {"headers": {b"org": b"a", b"user": b"u"}},
    ],
)
def test_not_identical(changes: dict[str, Any]) -> None:
    assert fingerprint(**changes) != fingerprint()


def test_a_body_cannot_pass_for_a_descriptor() -> None:
    spelled = b"10:header:org1:a"
    assert fingerprint(headers={}, body=spelled) != fingerprint(body=b"")
    assert fingerprint(headers={}, body=spelled + b"b") != fingerprint()


def test_the_token_is_judged_by_the_requests_time() -> None:
    assert reason(begin({"jwt": {"sub": "x"}}, jwt=JWT)) == "invalid_token"
    assert reason(begin({"jwt": {"sub": "x"}})) == "asked"
