import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from protocol.schema import bundle_schema, text
from protocol.validation import Report, validate

COMMITTED = Path(__file__).parents[3] / "docs/schema/bundle.schema.json"
JUDGE = Draft202012Validator(bundle_schema())
FREE = {"defaults", "match", "model_prices"}

GARBAGE: st.SearchStrategy[object] = st.one_of(
    st.sampled_from(
        [None, True, False, 0, 1, -1, 0.5, 100, 1e16, 10**20, "", "x", "/", "1", "100", [], {}, [1]]
    ),
    st.sampled_from(
        ["enforce", "reject", "throttle", "warn", "1h", "fixed", "HS256", "RS256", "UTC", "jwt:sub"]
    ),
    st.sampled_from(["token_bucket", "sliding_window", "cost_based", "token_bucket_llm"]),
    st.sampled_from([["x"], [{}], {"enabled": True}, {"enabled": False}, {"jwt:a": 1}, {"x": {}}]),
)


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, each in inner:
        yield from places(each, (*path, key))


def objects(schema: object) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            yield schema
        for each in schema.values():
            yield from objects(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from objects(each)


def keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield key
            if key not in FREE:
                yield from keys(each)
    elif isinstance(value, list):
        for each in value:
            yield from keys(each)


def test_the_committed_file_is_current() -> None:
    assert COMMITTED.read_text("utf-8") == text(), "run python -m protocol.schema"


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(json.loads(text()))


def test_it_describes_every_field_and_no_other(full: dict[str, Any]) -> None:
    described = {
        name
        for each in objects(bundle_schema())
        for name, field in each["properties"].items()
        if field.get("description")
    }
    used = set(keys(full)) | {"input_per_million", "output_per_million"}
    assert described == used | {"$schema", "jwt_keys", "public_key"}


def test_a_schema_key_is_not_unknown(full: dict[str, Any], report: Callable[..., Report]) -> None:
    full["$schema"] = "bundle.schema.json"
    assert report(full, strict=True).errors == ()


def test_the_full_bundle_passes(full: dict[str, Any]) -> None:
    assert JUDGE.is_valid(full)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("bundle_version", 0),
        ("bundle_version", True),
        ("policies", ...),
        ("issued_at", "today"),
        ("global_shadow.reason", ...),
        ("kill_switches[0].scope_key", "ip"),
        ("jwt.keys", ...),
        ("jwt.keys[0].secret", ...),
        ("jwt.keys[1].secret", "x"),
        ("jwt_keys", [{"id": "x", "algorithm": "HS256", "secret": "x"}]),
        ("model_prices.tiny.input_per_million", "-1"),
        ("policies[0].spec.selector", {}),
        ("policies[0].spec.rules[0].name", ...),
        ("policies[0].spec.rules[0].limit_keys[0]", "cookie:x"),
        ("policies[0].spec.rules[0].algorithm", "fixed_window"),
        ("policies[0].spec.rules[0].algorithm_config.tokens_per_second", ...),
        ("policies[0].spec.rules[0].algorithm_config.burst", 0),
        ("policies[0].spec.rules[0].match", {"plan": "x"}),
        ("policies[0].spec.rules[1].algorithm_config.window_seconds", 1.5),
        ("policies[0].spec.rules[2].algorithm_config.period", "1h"),
        ("policies[0].spec.rules[2].algorithm_config.staged_actions[0].threshold_percent", 99),
        ("policies[0].spec.rules[2].algorithm_config.staged_actions[1].delay_ms", ...),
        ("policies[0].spec.rules[3].algorithm_config.token_source.estimator", "tiktoken"),
        ("policies[0].spec.rules[3].algorithm_config.streaming.enabled", "yes"),
        ("policies[0].spec.fallback_limit.algorithm_config.rps", 0),
        ("policies[0].spec.loop_detection.threshold_identical_requests", 1),
        ("policies[0].spec.circuit_breaker.alert", "yes"),
    ],
)
def test_it_refuses_what_an_editor_should_underline(
    path: str, value: object, edited: Callable[[str, object], dict[str, Any]]
) -> None:
    assert not JUDGE.is_valid(edited(path, value))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_what_it_refuses_validation_refuses(data: st.DataObject, full_text: str) -> None:
    document = json.loads(full_text)
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(list(places(document))[1:]))
        target: Any = document
        for step in parents:
            target = target[step]
        if data.draw(st.booleans()):
            target[last] = copy.deepcopy(data.draw(GARBAGE))
        elif len(document) > 1:
            del target[last]
    if not JUDGE.is_valid(document):
        assert validate(document, now=1_767_225_600).errors


@given(st.floats(allow_nan=False) | st.integers() | st.sampled_from([math.inf, 10**12, 1e12]))
def test_numbers_too(value: float) -> None:
    for field in ("tokens_per_second", "burst", "fixed_cost"):
        config = {"tokens_per_second": 1e-9, "burst": 10**12, field: value}
        rule = {"name": "r", "limit_keys": [], "algorithm": "token_bucket"}
        spec = {
            "selector": {"pathPrefix": "/"},
            "rules": [{**rule, "algorithm_config": config}],
        }
        document = {"bundle_version": 1, "policies": [{"id": "p", "spec": spec}]}
        if not JUDGE.is_valid(document):
            assert validate(document, now=0).errors
