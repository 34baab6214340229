from collections.abc import Callable
from typing import Any

import pytest

Faults = Callable[[str, object], dict[str, str]]
Warned = Callable[..., dict[str, str]]

SPEC = "policies[0].spec"
RULE = {
    "limit_keys": [],
    "algorithm": "token_bucket",
    "algorithm_config": {"tokens_per_second": 1, "burst": 1},
}


@pytest.mark.parametrize("value", [None, 1, "x", [], True])
def test_a_policy_is_an_object(value: object, faults: Faults) -> None:
    assert "object" in faults("policies[0]", value)["policies[0]"]


@pytest.mark.parametrize(
    ("path", "fragment", "values"),
    [
        ("policies[0].id", "id", [..., None, "", 1, True, [], "\ud800"]),
        ("policies[0].spec", "spec", [..., None, "x", [], 1]),
        (f"{SPEC}.selector", "selector", [..., None, "/", []]),
        (f"{SPEC}.mode", "mode", [None, "", "Enforce", "off", 1, True, ["shadow"]]),
        (f"{SPEC}.rules", "rules", [..., None, {}, "x", 1]),
        (f"{SPEC}.rules[0]", "object", [None, "x", [], 1]),
        (f"{SPEC}.fallback_limit", "object", [None, "x", [], True]),
        (f"{SPEC}.fallback_limit.name", "name", [None, "", 7]),
        (f"{SPEC}.fallback_limit.limit_keys", "limit_key", [..., None]),
        (f"{SPEC}.loop_detection", "object", [None, True, []]),
        (f"{SPEC}.circuit_breaker", "object", [None, True, []]),
    ],
)
def test_rows_of_the_table(path: str, fragment: str, values: list[object], faults: Faults) -> None:
    for value in values:
        assert fragment in faults(path, value)[path], value


def test_a_second_use_of_an_id_is_a_duplicate(faults: Faults) -> None:
    assert "duplicate" in faults("policies[1].id", "b")["policies[1].id"]
    assert "policies[0]" in faults("policies[1].id", "b")["policies[1].id"]


def test_the_id_of_a_broken_policy_is_taken_too(
    edited: Callable[[str, object], dict[str, Any]], report: Callable[..., Any]
) -> None:
    document = edited("policies[0].spec", None)
    document["policies"][1]["id"] = "b"
    assert "$.policies[1].id" in {problem.path for problem in report(document).errors}


def test_rule_names_are_unique_in_their_policy(faults: Faults) -> None:
    found = faults(f"{SPEC}.rules[3].name", "window")
    assert "duplicate" in found[f"{SPEC}.rules[3].name"]
    assert faults("policies[1].spec.rules", [{**RULE, "name": "window"}]) == {}


def test_the_fallback_is_one_of_the_named_rules(faults: Faults) -> None:
    place = f"{SPEC}.fallback_limit.name"
    assert "duplicate" in faults(place, "window")[place]
    assert "duplicate" in faults(f"{SPEC}.rules[0].name", "fallback_limit")[place]


def test_defaults(full: dict[str, Any], report: Callable[..., Any]) -> None:
    plain, rich = report(full).bundle.policies
    assert plain.mode == "enforce"
    assert plain.rules == ()
    assert plain.fallback_limit is plain.loop_detection is plain.circuit_breaker is None
    assert rich.mode == "shadow"
    assert rich.fallback_limit.name == "fallback_limit"


def test_ids_sort_by_bytes(report: Callable[..., Any]) -> None:
    spec = {"selector": {"pathPrefix": "/"}, "rules": []}
    ids = ["b", "a", "B", "é", "z", "\U0001f600", "\uffff"]
    policies = [{"id": each, "spec": spec} for each in ids]
    bundle = report({"bundle_version": 1, "policies": policies}).bundle
    assert [policy.id for policy in bundle.policies] == sorted(ids, key=str.encode)


def test_a_policy_that_does_nothing_is_pointed_out(
    full: dict[str, Any], report: Callable[..., Any]
) -> None:
    paths = [problem.path for problem in report(full).warnings]
    assert paths == ["$.policies[1].spec"]
    full["policies"][1]["spec"]["circuit_breaker"] = {"enabled": False}
    assert "$.policies[1].spec" in [problem.path for problem in report(full).warnings]
    full["policies"][1]["spec"]["fallback_limit"] = RULE
    assert "$.policies[1].spec" not in [problem.path for problem in report(full).warnings]
