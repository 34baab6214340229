import json
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.bundle import Bundle, Override
from protocol.validation import Report, validate

Faults = Callable[[str, object], dict[str, str]]

HUGE = 10**40
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
GARBAGE = (
    JSON
    | st.sampled_from(
        [10**5000, -(10**5000), math.nan, math.inf, -math.inf, 1e308, 5e-324, "\ud800", "/"]
    )
    | st.dictionaries(st.sampled_from(["enabled", "keys", "algorithm", "id", "spec"]), JSON)
)


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


def test_the_full_bundle_is_valid_and_its_policies_are_in_id_order(
    full: dict[str, Any], report: Callable[..., Report]
) -> None:
    found = report(full, strict=True)
    assert found.errors == ()
    assert found.bundle is not None
    assert found.bundle.version == 7
    assert [policy.id for policy in found.bundle.policies] == ["a", "b"]
    assert found.bundle.hash == ""


def test_defaults_of_a_minimal_bundle(report: Callable[..., Report]) -> None:
    found = report({"bundle_version": 1, "policies": []})
    assert found == Report(Bundle(version=1, policies=()))


@pytest.mark.parametrize("document", [[], None, True, "x", 3, math.nan, HUGE])
def test_a_bundle_is_an_object(document: object, report: Callable[..., Report]) -> None:
    found = report(document)
    assert found.bundle is None
    assert [problem.path for problem in found.errors] == ["$"]
    assert "object" in found.errors[0].message


@pytest.mark.parametrize(
    "value", [..., None, True, 0, -1, 1.5, "1", [], {}, math.nan, math.inf, 2**63, 1e300, HUGE]
)
def test_bundle_version_is_a_positive_integer(value: object, faults: Faults) -> None:
    assert list(faults("bundle_version", value)) == ["bundle_version"]
    assert "positive" in faults("bundle_version", value)["bundle_version"]


@pytest.mark.parametrize("value", [1, 1.0, 20260203140000123, 2**63 - 1])
def test_bundle_versions(value: object, faults: Faults) -> None:
    assert faults("bundle_version", value) == {}


@pytest.mark.parametrize(
    "value", [None, 1, True, "", "2026-02-03", [], "2026-02-03T14:00:00+00:00"]
)
@pytest.mark.parametrize("field", ["issued_at", "expires_at"])
def test_timestamps_are_strict(field: str, value: object, faults: Faults) -> None:
    assert "invalid" in faults(field, value)[field]


def test_a_bundle_expires_at_the_moment_of_its_expiry(faults: Faults) -> None:
    assert "expired" in faults("expires_at", "2026-01-01T00:00:00Z")["expires_at"]
    assert faults("expires_at", "2026-01-01T00:00:01Z") == {}
    assert faults("issued_at", "2099-01-01T00:00:00Z") == {}


@pytest.mark.parametrize("value", [..., None, {}, "x", 1, True])
def test_policies_is_an_array(value: object, faults: Faults) -> None:
    assert "policies" in faults("policies", value)["policies"]


@pytest.mark.parametrize("value", [None, {}, "x", 1, True])
def test_kill_switches_is_an_array(value: object, faults: Faults) -> None:
    assert "kill_switches" in faults("kill_switches", value)["kill_switches"]


@pytest.mark.parametrize(
    ("path", "guess"),
    [
        ("kill_switch", "`kill_switches`"),
        ("policies[0].sepc", "`spec`"),
        ("policies[0].spec.rule", "`rules`"),
        ("policies[0].spec.selector.pathprefix", "`pathPrefix`"),
        ("policies[0].spec.rules[0].limit_key", "`limit_keys`"),
        ("policies[0].spec.rules[0].algorithm_config.token_per_second", "`tokens_per_second`"),
        ("policies[0].spec.rules[1].algorithm_config.window", "`window_seconds`"),
        ("policies[0].spec.rules[2].algorithm_config.cost_source", "`cost_key`"),
        ("policies[0].spec.rules[2].algorithm_config.staged_actions[0].treshold_percent", "`thr"),
        ("policies[0].spec.rules[3].algorithm_config.streaming.enable", "`enabled`"),
        ("policies[0].spec.rules[3].algorithm_config.token_source.estimater", "`estimator`"),
        ("policies[0].spec.fallback_limit.on_mising", "`on_missing`"),
        ("policies[0].spec.loop_detection.treshold", ""),
        ("policies[0].spec.circuit_breaker.alerts", "`alert`"),
        ("global_shadow.expires", "`expires_at`"),
        ("kill_switches[0].scope", "`scope_"),
        ("jwt.issuers", "`issuer`"),
        ("jwt.keys[0].secert", "`secret`"),
        ("model_prices.tiny.input", "`input_per_million`"),
    ],
)
def test_an_unknown_key_is_a_warning_and_in_strict_mode_an_error(
    path: str,
    guess: str,
    edited: Callable[[str, object], dict[str, Any]],
    report: Callable[..., Report],
) -> None:
    document = edited(path, {"not": "read"})
    lenient, strict = report(document), report(document, strict=True)
    assert lenient.bundle is not None
    assert strict.bundle is None
    for problems in (lenient.warnings, strict.errors):
        (message,) = (problem.message for problem in problems if problem.path == f"$.{path}")
        assert "unknown key" in message
        assert guess in message


def test_free_keys_are_not_unknown(warned: Callable[..., dict[str, str]]) -> None:
    assert warned("defaults.whatever", 1) == {}


def test_every_error_is_listed(report: Callable[..., Report]) -> None:
    found = report(
        {
            "bundle_version": True,
            "issued_at": 5,
            "policies": [
                7,
                {"id": "", "spec": {"selector": {}, "rules": [{}, "x"], "mode": 1}},
                {"id": "p", "spec": None},
            ],
            "kill_switches": [{}],
            "jwt": {"keys": []},
        }
    )
    assert {problem.path for problem in found.errors} == {
        "$.bundle_version",
        "$.issued_at",
        "$.policies[0]",
        "$.policies[1].id",
        "$.policies[1].spec.selector",
        "$.policies[1].spec.mode",
        "$.policies[1].spec.rules[0].name",
        "$.policies[1].spec.rules[0].limit_keys",
        "$.policies[1].spec.rules[0].algorithm",
        "$.policies[1].spec.rules[0].algorithm_config",
        "$.policies[1].spec.rules[1]",
        "$.policies[2].spec",
        "$.kill_switches[0].scope_key",
        "$.kill_switches[0].scope_value",
        "$.jwt.keys",
    }


@given(document=GARBAGE, strict=st.booleans())
def test_any_json_gives_a_report(document: object, strict: bool) -> None:  # noqa: FBT001 - drawn
    found = validate(document, now=0.0, strict=strict)
    assert (found.bundle is None) == bool(found.errors)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), garbage=GARBAGE)
def test_garbage_anywhere_in_a_bundle_gives_a_printable_report(
    data: st.DataObject, garbage: object, full_text: str
) -> None:
    document = json.loads(full_text)
    *parents, last = data.draw(st.sampled_from(places(document)[1:]))
    target: Any = document
    for step in parents:
        target = target[step]
    target[last] = garbage
    found = validate(document, now=1_767_225_600)
    assert (found.bundle is None) == bool(found.errors)
    for problem in found.errors + found.warnings:
        assert problem.path.startswith("$")
        assert (problem.path + problem.message).isprintable()
        assert len(problem.message) < 600
    if found.bundle is not None:
        assert found.bundle.version >= 1


def test_values_of_the_top_level(full: dict[str, Any], report: Callable[..., Report]) -> None:
    bundle = report(full).bundle
    assert bundle is not None
    assert bundle.global_shadow == Override("why", 1767227400)
    assert bundle.kill_switch_override == Override("why", 1767227400)
    assert bundle.jwt.leeway_seconds == Fraction(1, 2)
