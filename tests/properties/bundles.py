"""Random bundles and requests, as JSON, small enough that limits are met all the time."""

import json
from datetime import UTC, datetime

from hypothesis import strategies as st

from protocol.bundle import Bundle
from protocol.bundle_text import load
from tests.properties.reference import Asked, Json, rules_of

START = 1_770_129_000  # a Tuesday, 14:30 UTC
KEYS = (
    [],
    ["header:org"],
    ["header:org", "header:user"],
    ["query:team"],
    ["query:team", "header:org"],
)
SOURCES = ("fixed", "header:weight", "query:weight")
PATHS = ("/v1/chat", "/v1/other", "/v2")
SELECTORS = (
    {"pathPrefix": "/"},
    {"pathPrefix": "/v1"},
    {"pathExact": "/v1/chat"},
    {"pathExact": "/v2", "pathPrefix": "/v1/"},
    {"pathPrefix": "/", "methods": ["POST"]},
)

costs = st.fixed_dictionaries(
    {},
    optional={
        "fixed_cost": st.sampled_from([1, 2, 0.5]),
        "default_cost": st.sampled_from([1, 3, 0.1]),
    },
)


@st.composite
def token_buckets(draw: st.DrawFn) -> Json:
    rate = draw(st.sampled_from([0.1, 0.5, 1, 2, 2.5, 0.001, 0.3333]))
    burst = max(rate, draw(st.sampled_from([1, 2, 3, 5, 2.5])))
    source = {"cost_source": draw(st.sampled_from(SOURCES))}
    return {"tokens_per_second": rate, "burst": burst} | draw(costs) | source


@st.composite
def sliding_windows(draw: st.DrawFn, window: int) -> Json:
    source = {"cost_source": draw(st.sampled_from(SOURCES))}
    limit = draw(st.sampled_from([1, 2, 3, 4.5, 7]))
    return {"limit": limit, "window_seconds": window} | draw(costs) | source


@st.composite
def budgets(draw: st.DrawFn, period: str, *, tokens: bool) -> Json:
    levels = draw(st.lists(st.sampled_from([25, 50, 80, 99.5]), unique=True, max_size=3))
    stages: list[Json] = [{"threshold_percent": 100, "action": "reject"}]
    for level in levels:
        action = draw(st.sampled_from(["warn", "throttle", "reject"]))
        stage: Json = {"threshold_percent": level, "action": action}
        if action == "throttle":
            stage["delay_ms"] = draw(st.sampled_from([5, 250.5, 60_000]))
        stages.append(stage)
    config: Json = {"period": period, "staged_actions": stages}
    if tokens:
        more = {"budget": draw(st.sampled_from([20, 50, 200])), "cost_key": "llm:tokens"}
        return config | more | {"default_max_completion": draw(st.sampled_from([5, 10]))}
    budget = {"budget": draw(st.sampled_from([1, 3, 4.5, 10]))}
    return config | budget | draw(costs) | {"cost_key": draw(st.sampled_from(SOURCES))}


@st.composite
def llm_limits(draw: st.DrawFn, *, daily: bool) -> Json:
    minute = draw(st.sampled_from([20, 60, 100, 7.5]))
    config: Json = {
        "tokens_per_minute": minute,
        "default_max_completion": draw(st.sampled_from([5, 10])),
    }
    if draw(st.booleans()):
        config["burst_tokens"] = minute * 2
    if daily:
        config["tokens_per_day"] = draw(st.sampled_from([30, 100]))
    for name, values in (
        ("max_prompt_tokens", [3, 8]),
        ("max_completion_tokens", [4, 12]),
        ("max_tokens_per_request", [15, 25]),
    ):
        if draw(st.integers(0, 3)) == 0:
            config[name] = draw(st.sampled_from(values))
    return config


@st.composite
def rules(draw: st.DrawFn, name: str | None) -> Json:
    kind = draw(st.integers(0, 6))
    rule: Json
    if kind <= 1:
        rule = {"algorithm": "token_bucket", "algorithm_config": draw(token_buckets())}
    elif kind == 2:
        window = draw(st.sampled_from([1, 10, 60]))
        rule = {"algorithm": "sliding_window", "algorithm_config": draw(sliding_windows(window))}
    elif kind <= 4:
        period = draw(st.sampled_from(["1m", "5m", "1h", "1d", "7d", "1mo"]))
        rule = {
            "algorithm": "cost_based",
            "algorithm_config": draw(budgets(period, tokens=kind == 4)),
        }
    else:
        rule = {
            "algorithm": "token_bucket_llm",
            "algorithm_config": draw(llm_limits(daily=kind == 6)),
        }
    rule["limit_keys"] = list(draw(st.sampled_from(KEYS)))
    if name is not None:
        rule["name"] = name
    if draw(st.integers(0, 2)) == 0:
        rule["on_missing"] = "reject"
    if draw(st.integers(0, 3)) == 0:
        rule["reject_status"] = 503
    if name is not None and draw(st.integers(0, 2)) == 0:
        rule["match"] = {"header:tier": draw(st.sampled_from(["pro", "free"]))}
    return rule


@st.composite
def loops(draw: st.DrawFn) -> Json:
    return {
        "enabled": True,
        "window_seconds": draw(st.sampled_from([1, 30])),
        "threshold_identical_requests": draw(st.integers(2, 4)),
        "action": draw(st.sampled_from(["reject", "throttle", "warn"])),
    }


@st.composite
def breakers(draw: st.DrawFn) -> Json:
    config: Json = {
        "enabled": True,
        "spend_rate_threshold_per_minute": draw(st.sampled_from([3, 12, 40])),
    }
    if draw(st.booleans()):
        config["auto_reset_after_minutes"] = draw(st.sampled_from([0.5, 1, 2]))
    return config


@st.composite
def policies(draw: st.DrawFn, name: str) -> Json:
    spec: Json = {
        "selector": draw(st.sampled_from(SELECTORS)),
        "rules": [draw(rules(f"r{number}")) for number in range(draw(st.integers(0, 3)))],
    }
    if draw(st.integers(0, 3)) == 0:
        spec["mode"] = "shadow"
    if draw(st.integers(0, 2)) == 0:
        spec["fallback_limit"] = draw(rules(None))
    if draw(st.integers(0, 2)) == 0:
        spec["loop_detection"] = draw(loops())
    if draw(st.integers(0, 2)) == 0:
        spec["circuit_breaker"] = draw(breakers())
    return {"id": name, "spec": spec}


@st.composite
def documents(draw: st.DrawFn) -> Json:
    names = draw(st.lists(st.sampled_from("abcde"), unique=True, min_size=1, max_size=4))
    document: Json = {"bundle_version": 1, "policies": [draw(policies(name)) for name in names]}
    return document | draw(overrides)


overrides = st.sampled_from([0, 0, 30, 3600]).map(
    lambda late: {"global_shadow": shadow_until(START + late)} if late else {}
)


def shadow_until(at: int) -> Json:
    text = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"enabled": True, "reason": "rehearsal", "expires_at": text}


@st.composite
def changed(draw: st.DrawFn, document: Json) -> Json:
    """Return a successor: other limits, a policy gone or new, global shadow on or off."""
    kept = [policy for policy in document["policies"] if draw(st.integers(0, 4))]
    known = {policy["id"] for policy in kept}
    new = draw(st.lists(st.sampled_from("abcde"), unique=True, max_size=1))
    return {
        "bundle_version": 1,
        "policies": [json.loads(json.dumps(policy)) for policy in kept]
        + [draw(policies(name)) for name in new if name not in known],
    } | draw(overrides)


@st.composite
def other_limits(draw: st.DrawFn, document: Json) -> Json:
    """Return the same rules of the same shape with new limits."""
    document = json.loads(json.dumps(document))
    for policy in document["policies"]:
        for rule in rules_of(policy):
            rule["algorithm_config"] = draw(
                limits_like(rule["algorithm"], rule["algorithm_config"])
            )
    return document


def limits_like(algorithm: str, config: Json) -> st.SearchStrategy[Json]:
    if algorithm == "token_bucket":
        return token_buckets()
    if algorithm == "sliding_window":
        return sliding_windows(config["window_seconds"])
    if algorithm == "cost_based":
        return budgets(config["period"], tokens=config["cost_key"] == "llm:tokens")
    return llm_limits(daily="tokens_per_day" in config)


@st.composite
def requests(draw: st.DrawFn) -> Asked:
    headers: Json = {}
    query: Json = {}
    for name, values in (
        ("org", ["acme", "acme", "zeta", "1:a1:b", ""]),
        ("user", ["ann", "bob"]),
        ("tier", ["pro", "free", "gold"]),
        ("weight", ["2", "0.5", "+1e0", "-1", "lots", "0.0000001"]),
        ("x-token-estimate", ["3", "9"]),
    ):
        if draw(st.integers(0, 3)):
            headers[name] = draw(st.sampled_from(values))
    for name, values in (("team", ["red", "blue"]), ("weight", ["2", "nan"])):
        if draw(st.booleans()):
            query[name] = draw(st.sampled_from(values))
    return Asked(
        method=draw(st.sampled_from(["POST", "POST", "GET"])),
        path=draw(st.sampled_from(PATHS)),
        headers=headers,
        query=query,
        prompt=draw(st.sampled_from([0, 0, 5, 12, 40])),
        maximum=draw(st.sampled_from([None, 2, 6, 30])),
    )


def entry(asked: Asked) -> Json:
    """Return a request as `daemon.replay.request_of` takes it."""
    made: Json = {
        "method": asked.method,
        "path": asked.path,
        "headers": asked.headers,
        "query": asked.query,
    }
    if asked.prompt:
        message = {"role": "user", "content": "x" * asked.prompt}
        made["body"] = {"model": "m", "messages": [message]}
        if asked.maximum is not None:
            made["body"]["max_tokens"] = asked.maximum
    return made


def compiled(document: Json, now: float = START) -> Bundle:
    """Return the validated bundle of a document."""
    found = load(json.dumps(document).encode(), now=now)
    assert found.bundle is not None, found.errors
    return found.bundle
