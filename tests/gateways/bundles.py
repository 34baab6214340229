"""The bundle behind the contract: one policy a promise, none touching another's paths."""

from base64 import urlsafe_b64encode
from hmac import digest
from json import dumps
from typing import Any

SECRET = "the secret of the contract's tokens, long enough"  # noqa: S105 - of nothing else
SLOW = 0.0001
"""Tokens a second: what is spent in a test does not come back in it."""

TENANT_LIMIT = 25
ADDRESS_LIMIT = 3
DELAY_MS = 700
TOKENS = 10_000


def policy(name: str, key: str, burst: int, **rule: object) -> dict[str, Any]:
    """Return a bucket of `burst` per `key`, for paths below /NAME/."""
    config = {"tokens_per_second": SLOW, "burst": burst}
    limit = {"name": "r", "limit_keys": [key], "algorithm": "token_bucket"}
    rules = [{**limit, "algorithm_config": config, **rule}]
    return {"id": name, "spec": {"selector": {"pathPrefix": f"/{name}/"}, "rules": rules}}


def selected(found: dict[str, Any], **selector: object) -> dict[str, Any]:
    """Return the policy with a narrower selector."""
    found["spec"]["selector"] |= selector
    return found


def throttled() -> dict[str, Any]:
    """Return a budget that delays everything after the first tenth."""
    config = {
        "budget": 10,
        "period": "1d",
        "staged_actions": [
            {"threshold_percent": 20, "action": "throttle", "delay_ms": DELAY_MS},
            {"threshold_percent": 100, "action": "reject"},
        ],
    }
    rule = {
        "name": "r",
        "limit_keys": ["header:x-key"],
        "algorithm": "cost_based",
        "algorithm_config": config,
    }
    return {"id": "throttled", "spec": {"selector": {"pathPrefix": "/throttled/"}, "rules": [rule]}}


def tokens() -> dict[str, Any]:
    """Return a budget of LLM tokens below /llm/; it refills by one token a second."""
    config = {"tokens_per_minute": 60, "burst_tokens": TOKENS, "default_max_completion": 1000}
    rule = {
        "name": "r",
        "limit_keys": ["header:x-key"],
        "algorithm": "token_bucket_llm",
        "algorithm_config": config,
    }
    return {"id": "llm", "spec": {"selector": {"pathPrefix": "/llm/"}, "rules": [rule]}}


CONTRACT: dict[str, Any] = {
    "bundle_version": 1,
    "jwt": {"keys": [{"id": "k", "algorithm": "HS256", "secret": SECRET}]},
    "kill_switches": [{"scope_key": "header:x-key", "scope_value": "banned", "route": "/any/item"}],
    "policies": [
        policy("any", "header:x-key", 1_000_000),
        policy("few", "header:x-key", 2),
        policy("busy", "header:x-key", 1, reject_status=503),
        policy("tenants", "jwt:tenant", TENANT_LIMIT, on_missing="reject"),
        policy("addresses", "ip:address", ADDRESS_LIMIT, on_missing="reject"),
        policy("countries", "ip:country", 1, on_missing="skip"),
        selected(policy("writes", "header:x-key", 1), methods=["POST"]),
        selected(policy("hosts", "header:x-key", 1), hosts=["shop.test"]),
        policy("queries", "query:user", 1, on_missing="reject"),
        throttled(),
        tokens(),
    ],
}

TOKENS_REQUIRED: dict[str, Any] = {
    **CONTRACT,
    "jwt": {**CONTRACT["jwt"], "required": True},
}


def bearer(**claims: object) -> str:
    """Return an `Authorization` value with a token that `CONTRACT` accepts (RFC 7515 §3.1)."""

    def part(data: bytes) -> str:
        return urlsafe_b64encode(data).rstrip(b"=").decode()

    head = part(dumps({"alg": "HS256", "typ": "JWT"}).encode())
    signed = f"{head}.{part(dumps(claims).encode())}"
    return f"Bearer {signed}.{part(digest(SECRET.encode(), signed.encode(), 'sha256'))}"
