import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from protocol.bundle import JwtKey, JwtPolicy

Faults = Callable[[str, object], dict[str, str]]
Edited = Callable[[str, object], dict[str, Any]]
Validated = Callable[..., Any]

SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105 - an example
HS = {"id": "h", "algorithm": "HS256", "secret": SECRET}


@pytest.mark.parametrize(
    ("place", "fragment", "values"),
    [
        ("jwt", "object", [None, True, "x", [], 1]),
        ("jwt.keys", "non-empty", [..., None, [], {}, "x"]),
        ("jwt.keys[0]", "object", [None, "x", [], 1]),
        ("jwt.keys[0].id", "id", [..., None, "", 1, True, []]),
        ("jwt.keys[1].id", "duplicate", ["h"]),
        ("jwt.keys[0].algorithm", "algorithm", [..., None, "", "none", "hs256", "HS512", 1, []]),
        ("jwt.required", "boolean", [None, 0, 1, "true", []]),
        ("jwt.audience", "audience", [None, "", [], [""], ["a", 1], 1, True, {}]),
        ("jwt.issuer", "issuer", [None, "", 1, True, [], ["x"]]),
        (
            "jwt.leeway_seconds",
            "non-negative",
            [None, True, "30", -1, -0.5, math.nan, math.inf, 1e300, []],
        ),
    ],
)
def test_rows_of_the_table(place: str, fragment: str, values: list[object], faults: Faults) -> None:
    for value in values:
        assert fragment in faults(place, value)[place], value


@pytest.mark.parametrize(
    "sources",
    [
        {},
        {"secret": None},
        {"secret": ""},
        {"secret": 12345678901234567},
        {"secret": ["topsecret"]},
        {"public_key": "x"},
        {"jwks_file": "/x"},
        {"secret": "topsecret" * 5, "public_key": "x"},
        {"secret": "topsecret" * 5, "jwks_file": "/x"},
    ],
)
def test_hs256_takes_exactly_a_secret(sources: dict[str, object], faults: Faults) -> None:
    found = faults("jwt.keys[0]", {"id": "k", "algorithm": "HS256", **sources})
    assert list(found) == ["jwt.keys[0]"]
    assert "secret" in found["jwt.keys[0]"]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize(
    "sources",
    [
        {},
        {"secret": SECRET},
        {"public_key": None},
        {"public_key": ""},
        {"public_key": "not PEM"},
        {"jwks_file": ""},
        {"jwks_file": 1},
        {"public_key": "x", "jwks_file": "/x"},
        {"jwks_file": "/x", "secret": SECRET},
    ],
)
def test_other_algorithms_take_exactly_one_public_source(
    algorithm: str, sources: dict[str, object], faults: Faults
) -> None:
    found = faults("jwt.keys[0]", {"id": "k", "algorithm": algorithm, **sources})
    assert list(found) == ["jwt.keys[0]"]
    assert "public_key" in found["jwt.keys[0]"]


@pytest.mark.parametrize("secret", ["hunter2", "é" * 15, ["hunter2"], {"hunter2": 1}, 7227227])
@pytest.mark.parametrize("field", ["secret", "secert", "public_key"])
def test_a_secret_is_never_shown(
    field: str, secret: object, edited: Edited, report: Validated
) -> None:
    found = report(edited("jwt.keys[0]", {"id": "k", "algorithm": "HS256", field: secret}))
    shown = str(found)
    for part in ("hunter2", "éé", "7227227"):
        assert part not in shown


def test_short_secrets_are_pointed_out(warned: Callable[..., dict[str, str]]) -> None:
    assert "32" in warned("jwt.keys[0].secret", "x" * 31)["jwt.keys[0].secret"]
    assert "32" in warned("jwt.keys[0].secret", "é" * 15)["jwt.keys[0].secret"]
    assert warned("jwt.keys[0].secret", "é" * 16) == {}


def test_the_alias(full: dict[str, Any], report: Validated) -> None:
    keys = full["jwt"].pop("keys")
    full["jwt_keys"] = keys
    both = report(full).bundle.jwt
    del full["jwt"]
    assert report(full).bundle.jwt == JwtPolicy(keys=both.keys)
    assert both.required
    full["jwt"] = {"keys": keys}
    assert [problem.path for problem in report(full).errors] == ["$.jwt_keys"]
    assert "either" in report(full).errors[0].message


@pytest.mark.parametrize("value", [None, [], {}, "x"])
def test_the_alias_is_checked_at_its_own_place(
    value: object, full: dict[str, Any], report: Validated
) -> None:
    del full["jwt"]["keys"]
    (problem,) = report({**full, "jwt_keys": value}).errors
    assert problem.path == "$.jwt_keys"
    assert "non-empty" in problem.message


def test_entries_of_the_alias_too(full: dict[str, Any], report: Validated) -> None:
    del full["jwt"]
    full["jwt_keys"] = [{"algorithm": "none"}]
    assert {problem.path for problem in report(full).errors} == {
        "$.jwt_keys[0].id",
        "$.jwt_keys[0].algorithm",
    }


def test_values(full: dict[str, Any], edited: Edited, report: Validated) -> None:
    assert report(full).bundle.jwt == JwtPolicy(
        keys=(
            JwtKey("h", "HS256", secret=SECRET),
            JwtKey("j", "ES256", jwks_file="/etc/fairvisor/jwks.json"),
        ),
        required=True,
        audience=("api", "web"),
        issuer="https://id.example",
        leeway_seconds=Fraction(1, 2),
    )
    assert report(edited("jwt.audience", "api")).bundle.jwt.audience == ("api",)
    assert report(edited("jwt", {"keys": [HS]})).bundle.jwt == JwtPolicy(
        keys=(JwtKey("h", "HS256", secret=SECRET),)
    )


@pytest.mark.parametrize("where", ["limit_keys", "match", "kill_switches"])
def test_claims_without_verification_are_pointed_out(where: str, report: Validated) -> None:
    rule: dict[str, Any] = {
        "name": "r",
        "limit_keys": [],
        "algorithm": "token_bucket",
        "algorithm_config": {"tokens_per_second": 1, "burst": 1},
    }
    document: dict[str, Any] = {
        "bundle_version": 1,
        "policies": [{"id": "p", "spec": {"selector": {"pathPrefix": "/"}, "rules": [rule]}}],
    }
    assert report(document).warnings == ()
    if where == "limit_keys":
        rule["limit_keys"] = ["jwt:sub"]
    elif where == "match":
        rule["match"] = {"jwt:sub": "x"}
    else:
        document["kill_switches"] = [{"scope_key": "jwt:sub", "scope_value": "x"}]
    for strict in (False, True):
        found = report(document, strict=strict)
        assert [problem.path for problem in found.warnings] == ["$.jwt"]
        assert "without verification" in found.warnings[0].message
        assert found.bundle is not None
    document["jwt_keys"] = [HS]
    assert report(document).warnings == ()
