import math
from collections.abc import Callable
from typing import Any

import pytest

from protocol.bundle import LlmBudget, Streaming

Faults = Callable[[str, object], dict[str, str]]

CONFIG = "policies[0].spec.rules[3].algorithm_config"
STREAMING = f"{CONFIG}.streaming"
NOT_POSITIVE: list[object] = [
    None,
    True,
    "5",
    "",
    [],
    {},
    0,
    -1,
    -0.5,
    math.nan,
    math.inf,
    1e300,
    10**40,
]
NOT_BOOLEAN: list[object] = [None, 0, 1, "true", "", [], {}]


@pytest.mark.parametrize(
    ("place", "fragment", "values"),
    [
        (f"{CONFIG}.tokens_per_minute", "positive", [..., *NOT_POSITIVE]),
        (f"{CONFIG}.tokens_per_day", "positive", NOT_POSITIVE),
        (f"{CONFIG}.burst_tokens", "burst_tokens must be >=", [*NOT_POSITIVE, 999, 999.9999999]),
        (f"{CONFIG}.max_prompt_tokens", "positive", NOT_POSITIVE),
        (f"{CONFIG}.max_completion_tokens", "positive", NOT_POSITIVE),
        (f"{CONFIG}.max_tokens_per_request", "positive", NOT_POSITIVE),
        (f"{CONFIG}.default_max_completion", "positive", NOT_POSITIVE),
        (f"{CONFIG}.reservation", "worst_case", [None, "", "average", 1, True, []]),
        (f"{CONFIG}.token_source", "object", [None, "simple_word", []]),
        (f"{CONFIG}.token_source.estimator", "simple_word", [None, "", "tiktoken", 1, True]),
        (STREAMING, "object", [None, True, "x", []]),
        (f"{STREAMING}.enabled", "boolean", NOT_BOOLEAN),
        (f"{STREAMING}.enforce_mid_stream", "boolean", NOT_BOOLEAN),
        (f"{STREAMING}.include_partial_usage", "boolean", NOT_BOOLEAN),
        (f"{STREAMING}.buffer_tokens", "positive", NOT_POSITIVE),
        (f"{STREAMING}.on_limit_exceeded", "graceful_close", [None, "", "drop", 1, True, []]),
    ],
)
def test_rows_of_the_table(place: str, fragment: str, values: list[object], faults: Faults) -> None:
    for value in values:
        assert fragment in faults(place, value)[place], value


def test_a_broken_minute_limit_does_not_blame_the_burst(faults: Faults) -> None:
    place = f"{CONFIG}.tokens_per_minute"
    assert list(faults(place, "1000")) == [place]


def test_values(full: dict[str, Any], report: Callable[..., Any]) -> None:
    (_, policy) = report(full).bundle.policies
    assert policy.rules[3].algorithm == LlmBudget(
        tokens_per_minute=1_000_000_000,
        burst_tokens=1_000_000_000,
        tokens_per_day=5_000_000_000,
        max_prompt_tokens=10,
        max_completion_tokens=20,
        max_tokens_per_request=30,
        default_max_completion=1,
        estimator="header_hint",
        reservation="learned",
        streaming=Streaming(
            enabled=False,
            enforce_mid_stream=False,
            include_partial_usage=False,
            buffer_tokens=10,
            on_limit_exceeded="error_chunk",
        ),
    )


def test_defaults(
    edited: Callable[[str, object], dict[str, Any]], report: Callable[..., Any]
) -> None:
    (_, policy) = report(edited(CONFIG, {"tokens_per_minute": 90.5})).bundle.policies
    assert policy.rules[3].algorithm == LlmBudget(90_500_000, 90_500_000)
    streaming = {"tokens_per_minute": 90.5, "streaming": {}, "token_source": {}}
    (_, policy) = report(edited(CONFIG, streaming)).bundle.policies
    assert policy.rules[3].algorithm == LlmBudget(90_500_000, 90_500_000)
