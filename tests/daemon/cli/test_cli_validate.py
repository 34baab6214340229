"""`fairvisor validate` (§2.5, §2.6, §16)."""

import base64
import hmac
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

QUICKSTART = Path(__file__).parents[3] / "examples" / "quickstart" / "policy.json"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def test_a_valid_bundle(fairvisor: Callable[..., Result]) -> None:
    result = fairvisor("validate", QUICKSTART)
    assert (result.exit_code, result.stdout, result.stderr) == (
        0,
        "Valid: 2 policies, 2 rules\n",
        "",
    )


def test_every_error_is_told_and_only_on_standard_error(fairvisor: Callable[..., Result]) -> None:
    result = fairvisor("validate", "-", stdin='{"bundle_version": 0, "policies": {}}')
    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert [line.split(": ")[:3] for line in lines] == [
        ["Error", "standard input", "$.bundle_version"],
        ["Error", "standard input", "$.policies"],
    ]


def test_problems_name_the_file(fairvisor: Callable[..., Result]) -> None:
    Path("mine.json").write_text('{"bundle_version": 0, "policies": [], "polices": []}')
    lines = fairvisor("validate", "mine.json").stderr.splitlines()
    assert [line.split(": ")[:3] for line in lines] == [
        ["Warning", "mine.json", "$.polices"],
        ["Error", "mine.json", "$.bundle_version"],
    ]


@pytest.mark.parametrize(
    ("path", "name"), [("/nonexist", "/nonexist"), (".", "."), ("/proc/self/mem", "/proc/self/mem")]
)
def test_a_file_that_cannot_be_read_has_no_place(
    fairvisor: Callable[..., Result], path: str, name: str
) -> None:
    (line,) = fairvisor("validate", path).stderr.splitlines()
    assert line.startswith(f"Error: {name}: cannot be read: ")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"bundle_version": 1e400, "policies": []}', "$.bundle_version"),
        ('{"bundle_version": 1, "policies": [{"a": 1}, {"b": [0, -1e999]}]}', "$.policies[1].b[1]"),
        (f'{{"bundle_version": {"9" * 400}, "policies": []}}', "$.bundle_version"),
        ('{"bundle_version": 1e400', "$"),
        ('{"bundle_version": 1e400, "policies": ' + "[" * 100_000, "$"),
    ],
)
def test_a_number_that_is_too_large_has_its_place(
    fairvisor: Callable[..., Result], text: str, place: str
) -> None:
    Path("large.json").write_text(text)
    (line,) = fairvisor("validate", "large.json").stderr.splitlines()
    assert line.startswith(f"Error: large.json: {place}: ")
    if place != "$":
        assert "is too large: numbers go to about 1.8e308" in line


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([], "Valid: 0 policies, 0 rules\n"),
        ([1], "Valid: 1 policy, 1 rule\n"),
        ([2], "Valid: 1 policy, 2 rules\n"),
    ],
)
def test_one_is_not_many(fairvisor: Callable[..., Result], rules: list[int], said: str) -> None:
    rule = json.loads(QUICKSTART.read_text())["policies"][0]["spec"]["rules"][0]
    policies = [
        {
            "id": f"p{number}",
            "spec": {
                "selector": {"pathPrefix": "/"},
                "rules": [{**rule, "name": f"r{each}"} for each in range(count)],
            },
        }
        for number, count in enumerate(rules)
    ]
    bundle = json.dumps({"bundle_version": 1, "policies": policies})
    assert fairvisor("validate", "-", stdin=bundle).stdout == said


def test_json_is_for_programs(fairvisor: Callable[..., Result]) -> None:
    bundle = '{"bundle_version": 1, "policies": [], "bundle_vresion": 1}'
    result = fairvisor("validate", "-", "--format", "json", stdin=bundle)
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert document["valid"] is True
    assert document["errors"] == []
    assert [each["path"] for each in document["warnings"]] == ["$.bundle_vresion"]
    strict = fairvisor("validate", "-", "--format", "json", "--strict", stdin=bundle)
    assert strict.exit_code == 1
    assert json.loads(strict.stdout)["errors"] == document["warnings"]


@pytest.mark.parametrize(
    ("at", "code"),
    [("1767225599", 0), ("1767225600", 1), ("2025-12-31T23:59:59Z", 0), ("1767225600.5", 1)],
)
def test_expiry_is_judged_at_the_time_that_is_asked_for(
    fairvisor: Callable[..., Result], at: str, code: int
) -> None:
    bundle = '{"bundle_version": 1, "policies": [], "expires_at": "2026-01-01T00:00:00Z"}'
    assert fairvisor("validate", "-", "--at", at, stdin=bundle).exit_code == code


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe{}", "UTF-8"),
        (b"[]", "object"),
        (b"[" * 100_000, "nested"),
        (b'{"a":' * 100_000, "nested"),
        (b"\0" * 10, "JSON"),
    ],
)
@pytest.mark.parametrize("shape", ["text", "json"])
def test_what_is_no_bundle_is_told_in_words(
    fairvisor: Callable[..., Result], content: bytes, words: str, shape: str
) -> None:
    Path("bad.json").write_bytes(content)
    result = fairvisor("validate", "bad.json", f"--format={shape}")
    assert result.exit_code == 1
    assert words in result.output


@pytest.mark.parametrize("path", ["missing.json", ".", "/proc/self/mem", "big.json"])
@pytest.mark.parametrize("command", ["validate", "test"])
def test_a_file_that_cannot_be_read_is_named(
    fairvisor: Callable[..., Result], command: str, path: str
) -> None:
    with Path("big.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    result = fairvisor(command, path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert path in result.stderr
    if command == "validate":
        document = json.loads(fairvisor(command, path, "--format=json").stdout)
        assert document["valid"] is False
        assert path in document["errors"][0]["message"]


def test_a_signed_bundle_needs_its_key(fairvisor: Callable[..., Result]) -> None:
    payload = QUICKSTART.read_bytes()
    signature = base64.b64encode(hmac.digest(b"k", payload, "sha256"))
    Path("signed").write_bytes(signature + b"\n" + payload)
    assert fairvisor("validate", "signed", FAIRVISOR_BUNDLE_SIGNING_KEY="k").exit_code == 0
    assert fairvisor("test", "signed", FAIRVISOR_BUNDLE_SIGNING_KEY="k").exit_code == 0
    wrong = fairvisor("validate", "signed", FAIRVISOR_BUNDLE_SIGNING_KEY="other")
    assert (wrong.exit_code, "invalid_signature" in wrong.stderr) == (1, True)
    assert fairvisor("validate", "signed").exit_code == 1


def test_a_key_file_that_is_missing_is_a_warning_here_and_an_error_in_the_daemon(
    fairvisor: Callable[..., Result],
) -> None:
    keys = [{"id": "a", "algorithm": "RS256", "jwks_file": "keys.json"}]
    bundle = {"bundle_version": 1, "policies": [], "jwt": {"keys": keys}}
    Path("policy.json").write_text(json.dumps(bundle))
    result = fairvisor("validate", "policy.json")
    assert result.exit_code == 0, result.stderr
    assert "Warning: policy.json: $.jwt.keys[0].jwks_file" in result.stderr
    assert fairvisor("test").exit_code == 1


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(document=JSON, shape=st.sampled_from(["text", "json"]))
def test_any_json_is_judged(fairvisor: Callable[..., Result], document: object, shape: str) -> None:
    text = json.dumps(document)
    assert fairvisor("validate", "-", f"--format={shape}", stdin=text).exit_code in {0, 1}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary())
def test_any_bytes_are_judged(fairvisor: Callable[..., Result], content: bytes) -> None:
    Path("bytes").write_bytes(content)
    assert fairvisor("validate", "bytes").exit_code in {0, 1}
    assert fairvisor("test", QUICKSTART, "--requests", "bytes").exit_code in {0, 1}
    assert [each.name for each in Path().iterdir()] == ["bytes"]
