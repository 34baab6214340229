"""One bundle that uses every field of the tables, and ways to break it at one place."""

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from protocol.validation import Report, validate

NOW = 1_767_225_600  # 2026-01-01T00:00:00Z
POLICY = "policies[0].spec"

FULL: dict[str, Any] = {
    "bundle_version": 7,
    "issued_at": "2025-12-31T00:00:00Z",
    "expires_at": "2027-01-01T00:00:00Z",
    "defaults": {"anything": [{"goes": None}]},
    "global_shadow": {"enabled": True, "reason": "why", "expires_at": "2026-01-01T00:30:00Z"},
    "kill_switch_override": {
        "enabled": True,
        "reason": "why",
        "expires_at": "2026-01-01T00:30:00Z",
    },
    "kill_switches": [
        {
            "scope_key": "header:X_Tenant",
            "scope_value": "t",
            "route": "/v1",
            "reason": "incident",
            "expires_at": "2020-01-01T00:00:00Z",
        }
    ],
    "jwt": {
        "keys": [
            {"id": "h", "algorithm": "HS256", "secret": "0123456789abcdef0123456789abcdef"},
            {"id": "j", "algorithm": "ES256", "jwks_file": "/etc/fairvisor/jwks.json"},
        ],
        "required": True,
        "audience": ["api", "web"],
        "issuer": "https://id.example",
        "leeway_seconds": 0.5,
    },
    "model_prices": {
        "gpt-4.1*": {"input_per_million": "2.50", "output_per_million": 10},
        "tiny": {"input_per_million": 0, "output_per_million": 0.1},
    },
    "policies": [
        {
            "id": "b",
            "spec": {
                "selector": {
                    "pathExact": "/v1",
                    "pathPrefix": "/v1",
                    "methods": ["GET", "POST"],
                    "hosts": ["API.Example.com:443"],
                },
                "mode": "shadow",
                "rules": [
                    {
                        "name": "bucket",
                        "limit_keys": ["jwt:sub", "header:X_B"],
                        "algorithm": "token_bucket",
                        "algorithm_config": {
                            "tokens_per_second": 0.1,
                            "burst": 2.5,
                            "cost_source": "header:X_Cost",
                            "fixed_cost": 3,
                            "default_cost": 0.25,
                        },
                        "match": {"jwt:plan": "pro", "query:n": 42, "ua:bot": False},
                        "on_missing": "reject",
                        "on_error": "local",
                        "reject_status": 503,
                        "unknown_model": "reject",
                    },
                    {
                        "name": "window",
                        "limit_keys": [],
                        "algorithm": "sliding_window",
                        "algorithm_config": {
                            "limit": 0.5,
                            "window_seconds": 60,
                            "cost_source": "query:Cost",
                        },
                    },
                    {
                        "name": "budget",
                        "limit_keys": ["ip:address"],
                        "algorithm": "cost_based",
                        "algorithm_config": {
                            "budget": 10,
                            "period": "1mo",
                            "timezone": "Europe/Berlin",
                            "cost_key": "llm:usd",
                            "staged_actions": [
                                {"threshold_percent": 100, "action": "reject"},
                                {"threshold_percent": 80.5, "action": "throttle", "delay_ms": 200},
                                {"threshold_percent": 50, "action": "warn"},
                            ],
                            "default_max_completion": 50,
                            "token_source": {"estimator": "tokenizer"},
                            "reservation": "learned",
                        },
                    },
                    {
                        "name": "tokens",
                        "limit_keys": ["llm:model"],
                        "algorithm": "token_bucket_llm",
                        "algorithm_config": {
                            "tokens_per_minute": 1000,
                            "tokens_per_day": 5000,
                            "burst_tokens": 1000,
                            "max_prompt_tokens": 10.9,
                            "max_completion_tokens": 20,
                            "max_tokens_per_request": 30,
                            "default_max_completion": 0.5,
                            "token_source": {"estimator": "header_hint"},
                            "reservation": "learned",
                            "streaming": {
                                "enabled": False,
                                "enforce_mid_stream": False,
                                "include_partial_usage": False,
                                "buffer_tokens": 10,
                                "on_limit_exceeded": "error_chunk",
                            },
                        },
                    },
                ],
                "fallback_limit": {
                    "limit_keys": [],
                    "algorithm": "token_bucket",
                    "algorithm_config": {"rps": 1, "burst": 1},
                },
                "loop_detection": {
                    "enabled": True,
                    "window_seconds": 60,
                    "threshold_identical_requests": 10,
                    "action": "throttle",
                    "similarity": "exact",
                },
                "circuit_breaker": {
                    "enabled": True,
                    "spend_rate_threshold_per_minute": 12.5,
                    "action": "reject",
                    "auto_reset_after_minutes": 0.5,
                    "alert": True,
                },
            },
        },
        {"id": "a", "spec": {"selector": {"pathPrefix": "/"}, "rules": []}},
    ],
}

Edit = Callable[[str, object], dict[str, Any]]
Faults = Callable[[str, object], dict[str, str]]
Warn = Callable[..., dict[str, str]]


def _set(document: dict[str, Any], path: str, value: object) -> None:
    *parents, last = (
        int(step[1:-1]) if step.startswith("[") else step
        for step in re.findall(r"\[\d+\]|[^.\[]+", path)
    )
    target: Any = document
    for step in parents:
        target = target[step]
    if value is ...:
        del target[last]
    else:
        target[last] = value


@pytest.fixture
def full() -> dict[str, Any]:
    return copy.deepcopy(FULL)


@pytest.fixture
def report() -> Callable[..., Report]:
    def validated(document: object, *, strict: bool = False) -> Report:
        return validate(document, now=NOW, strict=strict)

    return validated


@pytest.fixture
def edited(full: dict[str, Any]) -> Edit:
    """The full bundle with one place changed; `...` removes it."""

    def edit(path: str, value: object) -> dict[str, Any]:
        document = copy.deepcopy(full)
        _set(document, path, value)
        return document

    return edit


@pytest.fixture
def faults(edited: Edit, report: Callable[..., Report]) -> Faults:
    """All errors of the full bundle with one place changed: place without `$.` to message."""

    def find(path: str, value: object) -> dict[str, str]:
        found = report(edited(path, value))
        assert (found.bundle is None) == bool(found.errors)
        return {problem.path.removeprefix("$."): problem.message for problem in found.errors}

    return find


@pytest.fixture
def warned(edited: Edit, report: Callable[..., Report]) -> Warn:
    """All new warnings of the full bundle with one place changed; it must stay valid."""

    def find(path: str, value: object) -> dict[str, str]:
        found = report(edited(path, value))
        assert found.errors == ()
        usual = {"$.policies[1].spec"}
        return {
            problem.path.removeprefix("$."): problem.message
            for problem in found.warnings
            if problem.path not in usual
        }

    return find


@pytest.fixture(scope="session")
def full_text() -> str:
    return json.dumps(FULL)
