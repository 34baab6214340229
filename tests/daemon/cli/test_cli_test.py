"""`fairvisor test` (§16.1)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KEYS = [
    "index",
    "at",
    "method",
    "path",
    "action",
    "status",
    "reason",
    "policy_id",
    "rule_name",
    "limit",
    "remaining",
    "retry_after_base",
    "delay_ms",
    "mode",
    "would_reject",
    "original_reason",
    "loop_count",
    "reserved",
    "headers",
]


def rule(name: str, algorithm: str, config: dict[str, Any], **more: object) -> dict[str, Any]:
    return {
        "name": name,
        "limit_keys": ["header:x-user"],
        "algorithm": algorithm,
        "algorithm_config": config,
        **more,
    }


def policy(name: str, *rules: dict[str, Any], **spec: object) -> dict[str, Any]:
    return {"id": name, "spec": {"selector": {"pathPrefix": "/"}, "rules": list(rules), **spec}}


BUCKET = rule("bucket", "token_bucket", {"tokens_per_second": 1, "burst": 2})
LLM = rule("llm", "token_bucket_llm", {"tokens_per_minute": 1000})
USD = rule(
    "usd",
    "cost_based",
    {
        "budget": 10,
        "period": "1d",
        "cost_key": "llm:tokens",
        "staged_actions": [{"threshold_percent": 100, "action": "reject"}],
    },
)
BREAKER = policy(
    "breaker",
    BUCKET | {"algorithm_config": {"tokens_per_second": 100, "burst": 100}},
    circuit_breaker={"enabled": True, "spend_rate_threshold_per_minute": 3},
)


@pytest.fixture
def play(fairvisor: Callable[..., Result]) -> Callable[..., Result]:
    def play(bundle: object, requests: object, *arguments: str, **environ: str) -> Result:
        document = bundle
        if isinstance(bundle, list):
            document = {"bundle_version": 1, "policies": bundle}
        Path("policy.json").write_text(json.dumps(document))
        text = requests if isinstance(requests, str) else json.dumps(requests)
        Path("requests").write_text(text)
        return fairvisor("test", "--requests=requests", *arguments, **environ)

    return play


@pytest.fixture
def results(play: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    def results(*arguments: object, **environ: str) -> dict[str, Any]:
        result = play(*arguments, "--format=json", **environ)
        assert result.exit_code == 0, result.stderr
        return dict(json.loads(result.stdout))

    return results


def ask(at: float | None = 1000, **more: object) -> dict[str, Any]:
    timed = {} if at is None else {"at": at}
    return {**timed, "path": "/x", "headers": {"X-User": "u"}, **more}


def test_json_has_the_keys_of_the_specification_in_its_order(
    results: Callable[..., dict[str, Any]],
) -> None:
    document = results([policy("p", BUCKET)], [ask(), ask(), ask(1000.5)])
    assert list(document) == ["results", "summary", "would_reject", "by_rule"]
    assert list(document["results"][0])[: len(KEYS)] == KEYS
    assert document["summary"] == {"total": 3, "allow": 2, "reject": 1, "throttle": 0}
    assert list(document["summary"]) == ["total", "allow", "reject", "throttle"]
    first, _, last = document["results"]
    assert (first["index"], first["at"], first["method"], first["path"]) == (0, 1000, "GET", "/x")
    assert (first["limit"], first["remaining"], first["original_reason"]) == (2, 1, None)
    assert last["at"] == 1000.5
    assert (last["action"], last["status"], last["reason"]) == (
        "reject",
        429,
        "rate_limit_exceeded",
    )
    assert (last["policy_id"], last["rule_name"], last["retry_after_base"]) == ("p", "bucket", 1)
    assert int(last["headers"]["Retry-After"]) in {1, 2}
    assert last["headers"]["X-Fairvisor-Reason"] == "rate_limit_exceeded"
    (figures,) = document["by_rule"]
    assert figures["busiest"] == {"key": {"header:x-user": "u"}, "requests": 3, "rejected": 1}
    assert (figures["requests"], figures["rejected"], figures["rejected_percent"]) == (3, 1, 33.33)
    assert (figures["keys"], figures["lowest_remaining"], figures["limit"]) == (1, 0, 2)


def test_equal_input_gives_equal_output(play: Callable[..., Result]) -> None:
    bundle, requests = [policy("p", LLM, BUCKET)], [ask(), ask(), ask()]
    first = play(bundle, requests, "--format=json").stdout
    assert first == play(bundle, requests, "--format=json").stdout


def test_the_table(play: Callable[..., Result]) -> None:
    requests = [ask(), ask(path="/\x1b[2J"), ask(method="POST", path="/y?q=1"), {"path": "/"}]
    result = play([policy("p", BUCKET)], requests)
    lines = result.stdout.splitlines()
    assert lines[:5] == [
        "1. GET /x -> allow (p / bucket) reason: all_rules_passed",
        "2. GET /\\x1b[2J -> allow (p / bucket) reason: all_rules_passed",
        "3. POST /y?q=1 -> reject (p / bucket) reason: rate_limit_exceeded",
        "4. GET / -> allow (- / -) reason: all_rules_passed",
        "Summary: 4 total, 3 allow, 1 reject, 0 throttle",
    ]
    assert result.exit_code == 0
    assert any(line.startswith("p / bucket ") for line in lines)


def test_settlements(results: Callable[..., dict[str, Any]]) -> None:
    body = {"messages": [], "max_tokens": 600}
    requests = [
        ask(body=body),
        ask(None, body=body),
        {"settle": {"index": 0, "usage": {"prompt_tokens": 0, "completion_tokens": 100}}},
        {"at": 1001, "settle": {"index": 0, "usage": {"total_tokens": 100}}},
        {"settle": {"index": 1, "usage": {"total_tokens": 100}}},
        ask(None, body=body),
        {"settle": {"index": 5, "usage": {"total_tokens": 900}}},
    ]
    document = results([policy("p", LLM)], requests)
    items = document["results"]
    assert [item["action"] for item in items if "action" in item] == ["allow", "reject", "allow"]
    assert items[0]["reserved"] == 600
    assert items[2] == {"index": 2, "settled": True, "refunded": 500, "overrun": 0}
    assert items[3] == {"index": 3, "settled": False, "refunded": 0, "overrun": 0}
    assert items[4] == {"index": 4, "settled": False, "refunded": 0, "overrun": 0}
    assert items[6] == {"index": 6, "settled": True, "refunded": 0, "overrun": 300}
    assert document["summary"]["total"] == 3


def test_a_reservation_lives_as_long_as_its_setting_says(
    results: Callable[..., dict[str, Any]],
) -> None:
    requests = [
        ask(1000, body={"messages": [], "max_tokens": 100}),
        {"at": 1070, "settle": {"index": 0, "usage": {"total_tokens": 1}}},
    ]
    bundle = [policy("p", LLM)]
    assert results(bundle, requests)["results"][1]["settled"] is True
    document = results(bundle, requests, FAIRVISOR_RESERVATION_TTL="60")
    assert document["results"][1]["settled"] is False


def test_a_budget_settles_in_its_own_units(results: Callable[..., dict[str, Any]]) -> None:
    requests = [
        ask(body={"messages": [], "max_tokens": 4}),
        {"settle": {"index": 0, "usage": {"prompt_tokens": 0, "completion_tokens": 1}}},
    ]
    items = results([policy("p", USD)], requests)["results"]
    assert items[1] == {"index": 1, "settled": True, "refunded": 3, "overrun": 0}


def test_repeat_gives_as_many_results_and_settles_the_last(
    results: Callable[..., dict[str, Any]],
) -> None:
    requests = [
        ask(repeat=3, body={"messages": [], "max_tokens": 400}),
        {"settle": {"index": 0, "usage": {"total_tokens": 0}}},
    ]
    items = results([policy("p", LLM)], requests)["results"]
    assert [item["index"] for item in items] == [0, 0, 0, 1]
    assert [item["action"] for item in items[:3]] == ["allow", "allow", "reject"]
    assert items[3]["settled"] is False


def test_breakers_are_reset_by_hand(results: Callable[..., dict[str, Any]]) -> None:
    requests = [ask(repeat=4), {"reset_breaker": True}, ask(None)]
    items = results([BREAKER], requests)["results"]
    assert [item.get("action") for item in items] == [
        "allow",
        "allow",
        "reject",
        "reject",
        None,
        "allow",
    ]
    assert items[2]["reason"] == items[3]["reason"] == "circuit_breaker_open"
    assert items[4] == {"index": 1, "reset_breaker": True}


def test_a_dry_run_refuses_nothing_and_says_what_it_would(
    results: Callable[..., dict[str, Any]], play: Callable[..., Result]
) -> None:
    bundle, requests = [policy("p", BUCKET)], [ask(repeat=3)]
    document = results(bundle, requests, "--dry-run")
    last = document["results"][-1]
    assert document["summary"] == {"total": 3, "allow": 3, "reject": 0, "throttle": 0}
    assert document["would_reject"] == 1
    assert (last["mode"], last["would_reject"]) == ("shadow", True)
    assert last["original_reason"] == "rate_limit_exceeded"
    assert last["headers"] == {}
    assert document["by_rule"][0]["rejected"] == 1
    assert "would reject: rate_limit_exceeded" in play(bundle, requests, "--dry-run").stdout


def test_the_bundle_is_loaded_at_the_time_of_the_first_entry(play: Callable[..., Result]) -> None:
    bundle = {"bundle_version": 1, "policies": [], "expires_at": "2001-09-09T01:46:40Z"}
    assert play(bundle, [ask(999_999_999), ask(1_000_000_001)]).exit_code == 0
    late = play(bundle, [ask(1_000_000_000)])
    assert late.exit_code == 1
    assert "Error: policy.json: $.expires_at" in late.stderr
    assert play(bundle, [ask(None)]).exit_code == 1


def test_trusted_proxies_count(results: Callable[..., dict[str, Any]]) -> None:
    by_address = BUCKET | {"limit_keys": ["ip:address"]}
    requests = [ask(ip="10.0.0.1", headers={"X-Forwarded-For": f"192.0.2.{n}"}) for n in range(3)]
    bundle = [policy("p", by_address)]
    assert results(bundle, requests)["summary"]["reject"] == 1
    trusted = results(bundle, requests, FAIRVISOR_TRUSTED_PROXIES="10.0.0.0/8")
    assert trusted["summary"]["reject"] == 0


def test_every_part_of_a_request_reaches_the_engine(results: Callable[..., dict[str, Any]]) -> None:
    spec = policy(
        "p",
        rule(
            "r",
            "token_bucket",
            {"tokens_per_second": 1, "burst": 5},
            limit_keys=["query:a", "query:b", "query:n", "header:x-list", "jwt:sub", "ip:address"],
        ),
    )
    spec["spec"]["selector"] |= {"hosts": ["api.example.com"], "methods": ["PUT"]}
    request = {
        "at": "2026-01-01T00:00:00Z",
        "method": "PUT",
        "path": "/x?a=1",
        "host": "API.example.com:443",
        "query": {"b": ["2", "3"], "n": True},
        "headers": {"X_List": ["first", "second"], "X-Forwarded-For": ["192.0.2.1", "127.0.0.1"]},
        "jwt": {"sub": 7},
    }
    document = results([spec], [request])
    assert document["results"][0]["at"] == 1_767_225_600
    assert document["by_rule"][0]["busiest"]["key"] == {
        "query:a": "1",
        "query:b": "2",
        "query:n": "true",
        "header:x-list": "first",
        "jwt:sub": "7",
        "ip:address": "192.0.2.1",
    }


def test_a_credential_is_not_shown_whole(play: Callable[..., Result]) -> None:
    secret = BUCKET | {"limit_keys": ["header:x-api-key"]}
    requests = [ask(headers={"X-Api-Key": "sk-very-secret-value"})]
    for shape in ("table", "json"):
        shown = play([policy("p", secret)], requests, f"--format={shape}")
        assert "secret-value" not in shown.output


def test_without_a_bundle_everything_is_refused(results: Callable[..., dict[str, Any]]) -> None:
    document = results(None, [ask()])
    assert document["results"][0]["reason"] == "no_bundle_loaded"
    assert document["results"][0]["status"] == 503


def test_nothing_to_replay(results: Callable[..., dict[str, Any]]) -> None:
    for nothing in ("[]", "", "\n\n"):
        document = results([policy("p", BUCKET)], nothing)
        assert document["results"] == []
        assert document["summary"] == {"total": 0, "allow": 0, "reject": 0, "throttle": 0}


def test_lines_are_read_as_an_array_is(results: Callable[..., dict[str, Any]]) -> None:
    entries = [ask(), ask(None), {"settle": {"index": 1, "usage": {"total_tokens": 1}}}]
    lines = "\n\n".join(json.dumps(entry) for entry in entries) + "\r\n"
    bundle = [policy("p", LLM)]
    assert results(bundle, lines) == results(bundle, entries)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (1, "requests[1]: must be an object, not a number"),
        ({}, "requests[1].path: must be text such as /v1/items; it is missing"),
        ({"path": None}, "requests[1].path: must be text such as /v1/items; it is null"),
        (ask(at="noon"), "requests[1].at: must be epoch seconds"),  # type: ignore[arg-type]
        (ask(at=-1), "requests[1].at: must be epoch seconds"),
        (ask(at=True), "requests[1].at: must be epoch seconds"),
        (ask(at=1e300), "requests[1].at: must be epoch seconds"),
        (ask(method=5), "requests[1].method: must be text, not a number"),
        (ask(host=[]), "requests[1].host: must be text, not an array"),
        (ask(ip="300.1.1.1"), "requests[1].ip: must be an IP address"),
        (ask(ip=1), "requests[1].ip: must be an IP address"),
        (ask(jwt="token"), "requests[1].jwt: must be an object of claims, not text"),
        (ask(headers=[]), "requests[1].headers: must be an object of names and values"),
        (ask(headers={"a": {}}), "requests[1].headers.a: must be text, not an object"),
        (ask(headers={"a": [None]}), "requests[1].headers.a: must be text, not null"),
        (ask(query=7), "requests[1].query: must be an object of names and values, not a number"),
        (ask(repeat=0), "requests[1].repeat: must be a whole number from 1"),
        (ask(repeat=1e9), "requests[1].repeat: must be a whole number from 1"),
        ({"settle": 1}, "requests[1].settle: must be an object with index and usage"),
        ({"settle": {}}, "requests[1].settle.index: must be the number of an earlier entry"),
        ({"settle": {"index": 1}}, "requests[1].settle.index: 1 is not an earlier entry"),
        ({"settle": {"index": -1}}, "requests[1].settle.index: -1 is not an earlier entry"),
        ({"settle": {"index": 9}}, "requests[1].settle.index: 9 is not an earlier entry"),
        ({"settle": {"index": 0}}, "requests[1].settle.usage: must hold prompt_tokens"),
        (
            {"settle": {"index": 0, "usage": {"total_tokens": -1}}},
            "requests[1].settle.usage: must hold prompt_tokens",
        ),
    ],
)
def test_a_wrong_entry_is_named_with_its_field(
    play: Callable[..., Result], entry: object, message: str
) -> None:
    result = play([policy("p", BUCKET)], [ask(), entry], "--format=json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert result.stderr.count("Error: ") == 1


def test_a_settlement_of_a_settlement_is_a_mistake(play: Callable[..., Result]) -> None:
    settle = {"settle": {"index": 0, "usage": {"total_tokens": 1}}}
    again = {"settle": {"index": 1, "usage": {"total_tokens": 1}}}
    result = play([policy("p", LLM)], [ask(), settle, again])
    assert "requests[2].settle.index: entry 1 is not a request" in result.stderr


def test_mistakes_are_all_told_up_to_a_number(play: Callable[..., Result]) -> None:
    result = play([policy("p", BUCKET)], [{}] * 50)
    assert result.exit_code == 1
    assert result.stderr.count("Error: ") == 20
    assert "requests[19].path" in result.stderr
    assert "(and 30 more)" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "requests: not valid JSON at line 1"),
        ('{"path": "/"}\nnope', "requests: line 2: not valid JSON"),
        ('{\n"path": "/"\n}', "expected an array, or one JSON object per line"),
        ("5", "requests[0]: must be an object, not a number"),
        ("[" * 1000, "nested deeper"),
    ],
)
def test_what_is_no_requests_file_is_told(
    play: Callable[..., Result], text: str, message: str
) -> None:
    result = play([policy("p", BUCKET)], text)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


def test_what_looks_like_a_slip_is_a_warning(play: Callable[..., Result]) -> None:
    result = play([policy("p", BUCKET)], [ask(), ask(999, header={"a": "b"})])
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "Warning: requests[1].header: unknown key",
        "Warning: requests[1].at: earlier than the entry before it",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FAIRVISOR_TRUSTED_PROXIES", "nonsense"),
        ("FAIRVISOR_RESERVATION_TTL", "soon"),
        ("FAIRVISOR_GEOIP_FILE", "/missing"),
        ("FAIRVISOR_TOR_EXITS_FILE", "/missing"),
    ],
)
def test_a_wrong_setting_is_named(play: Callable[..., Result], name: str, value: str) -> None:
    result = play([policy("p", BUCKET)], [ask()], **{name: value})
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"Error: {name}" in result.stderr


def test_an_invalid_bundle_lists_its_errors(play: Callable[..., Result]) -> None:
    result = play({"bundle_version": 0, "policies": 1}, [ask()], "--format=json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: policy.json: $.bundle_version" in result.stderr
    assert "Error: policy.json: $.policies" in result.stderr


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
FIELDS = "at method path host headers query ip body jwt settle reset_breaker time descriptors"
PATHS = st.text(max_size=5) | st.sampled_from(["/", "/x?y=1", "/%2e%2e/"])
ENTRY = st.dictionaries(st.sampled_from(FIELDS.split()), JSON, max_size=4)
REQUEST = st.fixed_dictionaries(
    {"path": PATHS},
    optional={
        "at": st.floats(0, 1e9),
        "method": st.text(max_size=5),
        "host": st.text(max_size=5),
        "headers": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
        "query": st.text(max_size=5) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2),
        "body": JSON,
        "jwt": st.dictionaries(st.text(max_size=3), JSON, max_size=2),
        "time": st.just("2026-01-01T00:00:00Z"),
        "descriptors": st.dictionaries(
            st.sampled_from(["jwt:sub", "header:x-user", "ip:tor", "llm:model", "?"]), JSON
        ),
        "reserved": SCALARS,
        "repeat": st.integers(0, 3),
    },
)
SETTLE = st.builds(
    lambda index, usage: {"settle": {"index": index, "usage": usage}},
    st.integers(-1, 4),
    st.dictionaries(st.sampled_from(["prompt_tokens", "total_tokens"]), SCALARS),
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    document=JSON | st.lists(ENTRY | REQUEST | SETTLE, max_size=5),
    shape=st.sampled_from(["table", "json"]),
)
def test_any_json_as_requests_ends_well(
    play: Callable[..., Result], document: object, shape: str
) -> None:
    bundle = [policy("a", BUCKET, LLM | {"on_missing": "reject"}, USD), BREAKER]
    result = play(bundle, document, f"--format={shape}")
    assert result.exit_code in {0, 1}
    if result.exit_code:
        assert result.stdout == ""
        assert "Error: requests" in result.stderr
    elif shape == "json":
        assert json.loads(result.stdout)["summary"]["total"] >= 0
