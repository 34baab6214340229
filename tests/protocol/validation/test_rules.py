import math
from collections.abc import Callable
from typing import Any

import pytest

Faults = Callable[[str, object], dict[str, str]]

RULE = "policies[0].spec.rules[0]"
CHOICES: list[object] = [None, "", "other", 1, True, [], {}]


@pytest.mark.parametrize(
    ("field", "fragment", "values"),
    [
        ("name", "name", [..., None, "", 1, True, []]),
        ("limit_keys", "limit_key", [..., None, "jwt:sub", {}, 1]),
        ("algorithm", "algorithm", [..., None, 1, True, [], {}]),
        ("algorithm", "unsupported", ["", "Token_Bucket", "fixed_window"]),
        ("algorithm_config", "algorithm_config", [..., None, 5, "x", []]),
        ("match", "match", [None, 1, "x", []]),
        ("on_missing", "on_missing", CHOICES),
        ("on_error", "on_error", CHOICES),
        ("reject_status", "429 or 503", [None, 500, 429.5, "429", True, [], math.nan, 10**40]),
        ("unknown_model", "unknown_model", CHOICES),
    ],
)
def test_rows_of_the_table(field: str, fragment: str, values: list[object], faults: Faults) -> None:
    for value in values:
        assert fragment in faults(f"{RULE}.{field}", value)[f"{RULE}.{field}"], value


@pytest.mark.parametrize("key", [None, 1, True, "", "ip", "jwt:", "cookie:x", ["jwt:a"], {}])
def test_each_limit_key_is_checked_at_its_own_place(key: object, faults: Faults) -> None:
    found = faults(f"{RULE}.limit_keys[1]", key)
    assert list(found) == [f"{RULE}.limit_keys[1]"]
    assert "limit_key" in found[f"{RULE}.limit_keys[1]"]


@pytest.mark.parametrize("key", ["plan", "jwt:a b", "", "jwt:a\nb"])
def test_a_bad_key_of_match(key: str, faults: Faults) -> None:
    ((place, message),) = faults(f"{RULE}.match", {key: "x"}).items()
    assert place.startswith(f"{RULE}.match")
    assert place.isprintable()
    assert "match" in message


@pytest.mark.parametrize("value", [None, [], {}, math.nan, math.inf, 10**40, "\ud800"])
def test_a_bad_value_of_match(value: object, faults: Faults) -> None:
    assert "match" in faults(f"{RULE}.match.jwt:plan", value)[f"{RULE}.match.jwt:plan"]


def test_an_unknown_algorithm_does_not_hide_other_faults(
    edited: Callable[[str, object], dict[str, Any]], report: Callable[..., Any]
) -> None:
    document = edited(f"{RULE}.algorithm", "token-bucket")
    rule = document["policies"][0]["spec"]["rules"][0]
    rule.update(on_error="never", algorithm_config=None)
    found = {problem.path: problem.message for problem in report(document).errors}
    assert set(found) == {f"$.{RULE}.{x}" for x in ("algorithm", "on_error", "algorithm_config")}
    assert "`sliding_window`" in found[f"$.{RULE}.algorithm"]
    assert "did you mean `token_bucket`?" in found[f"$.{RULE}.algorithm"]


def test_values(full: dict[str, Any], report: Callable[..., Any]) -> None:
    rule = report(full).bundle.policies[1].rules[0]
    assert rule.limit_keys == ("jwt:sub", "header:x-b")
    assert rule.match == (("jwt:plan", "pro"), ("query:n", "42"), ("ua:bot", "false"))
    assert (rule.on_missing, rule.on_error) == ("reject", "local")
    assert (rule.reject_status, rule.unknown_model) == (503, "reject")


def test_defaults(full: dict[str, Any], report: Callable[..., Any]) -> None:
    rule = report(full).bundle.policies[1].rules[1]
    assert (rule.match, rule.on_missing, rule.on_error) == ((), "skip", "allow")
    assert (rule.reject_status, rule.unknown_model) == (429, "default_cost")


def test_match_with_empty_text_never_holds(warned: Callable[..., dict[str, str]]) -> None:
    assert "never" in warned(f"{RULE}.match", {"jwt:a": ""})[f"{RULE}.match.jwt:a"]
