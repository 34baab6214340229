"""A refusal is the SDK's own rate-limit error, and `Retry-After` is worth waiting for (§10.6)."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import uuid4

import anthropic
import openai
import pytest
from google.genai import errors

from tests.sdks.calls import CALLS
from tests.sdks.clients import (
    CREDENTIAL,
    STYLES,
    Call,
    Place,
    Sdk,
    Style,
    call,
    waiting,
    with_headers,
)
from tests.sdks.wire import Wire
from tests.upstreams.llm import Upstream

RATE_LIMITED: dict[Sdk, type[Exception]] = {
    "openai": openai.RateLimitError,
    "anthropic": anthropic.RateLimitError,
    "gemini": errors.ClientError,
}
UNAUTHENTICATED: dict[Sdk, type[Exception]] = {
    "openai": openai.AuthenticationError,
    "anthropic": anthropic.AuthenticationError,
    "gemini": errors.ClientError,
}
REFUSED = ["chat-text", "chat-text-streamed", "completions", "responses-text",
           "responses-text-streamed", "embeddings", "messages-text", "messages-text-streamed",
           "content-text", "content-text-streamed", "content-embeddings"]  # fmt: skip
SMALL = {"X-Tokens": "1"}


def bundle(**budget: int) -> dict[str, Any]:
    """Return one policy; each value of X-Case has a budget of its own."""
    config = {"tokens_per_minute": 10**9, "default_max_completion": 100, **budget}
    rule = {"name": "tokens", "limit_keys": ["header:x-case"], "algorithm": "token_bucket_llm",
            "algorithm_config": config}  # fmt: skip
    spec = {"selector": {"pathPrefix": "/"}, "rules": [rule]}
    return {"bundle_version": 1, "policies": [{"id": "llm", "spec": spec}]}


@pytest.fixture(name="upstream", scope="module")
def _upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


Start = Callable[..., Callable[[Sdk], Place]]


@pytest.fixture(name="start", scope="module")
def _start(serve_all: Callable[..., Any], upstream: Upstream) -> Start:
    started: dict[tuple[tuple[str, int], ...], str] = {}

    def start(**budget: int) -> Callable[[Sdk], Place]:
        key = tuple(sorted(budget.items()))
        if key not in started:
            urls = {f"provider_{name}_url": upstream.url for name in RATE_LIMITED}
            daemon = serve_all(bundle(**budget), mode="wrapper", **urls)
            started[key] = f"http://127.0.0.1:{daemon.port}"
        base = started[key]
        return lambda sdk: Place(f"{base}/{sdk}", CREDENTIAL, bearer=True)

    return start


def case(name: str) -> Call:
    """Return a call with a budget that nobody else uses."""
    return with_headers(CALLS[name], {**SMALL, "X-Case": uuid4().hex})


def spend(place: Place, what: Call, tokens: int) -> None:
    """Use up a budget: what was reserved for the call is less than what it bills."""
    name = {"openai": "chat-text", "anthropic": "messages-text", "gemini": "content-text"}[what.sdk]
    headers = {**what.headers, "X-Tokens": str(tokens)}
    call(place, with_headers(CALLS[name], headers), "sync")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_a_rate_limit_error(
    upstream: Upstream, start: Start, name: str, style: Style
) -> None:
    what = case(name)
    place = start(tokens_per_minute=600)(what.sdk)
    spend(place, what, 1000)  # 400 tokens of debt, which 40 seconds pay
    seen = len(upstream.seen)
    with pytest.raises(RATE_LIMITED[what.sdk]) as caught:
        call(place, what, style)
    assert len(upstream.seen) == seen
    error: Any = caught.value
    headers = error.response.headers
    wait = int(headers["retry-after"])
    message = f"request rejected: tpm_exceeded; retry after {wait} s"
    assert 30 <= wait <= 120
    assert headers["x-fairvisor-reason"] == "tpm_exceeded"
    assert "x-should-retry" not in headers
    assert message in str(error)
    match what.sdk:
        case "openai":
            assert (error.status_code, error.code) == (429, "rate_limit_exceeded")
            assert error.type == "rate_limit_error"
            assert error.body["message"] == message
        case "anthropic":
            assert (error.status_code, error.type) == (429, "rate_limit_error")
            assert error.body["error"]["message"] == message
        case _:
            assert (error.code, error.status) == (429, "RESOURCE_EXHAUSTED")
            assert error.message == message


SIMPLE = ["chat-text", "messages-text-streamed", "content-thinking"]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", SIMPLE)
def test_a_long_wait_is_not_slept_through(start: Start, name: str, style: Style) -> None:
    # An SDK with retries would sleep until midnight, and its caller would never learn why.
    what = case(name)
    place = replace(start(tokens_per_day=600)(what.sdk), retries=2)
    spend(place, what, 1000)
    if what.sdk == "gemini":
        place = replace(place, retries=None)  # Google's SDK knows nothing of the wait
    begun = time.monotonic()
    with pytest.raises(RATE_LIMITED[what.sdk], match="tpd_exceeded") as caught:
        call(place, what, style)
    error: Any = caught.value
    headers = error.response.headers
    near_midnight = int(headers["retry-after"]) <= 120
    assert (headers.get("x-should-retry") == "false") != near_midnight
    assert near_midnight or time.monotonic() - begun < 20


def retried(place: Place, name: str, style: Style) -> None:
    """Refuse a call of an SDK that retries, and see it succeed."""
    what = case(name)
    place = replace(place, retries=5)
    spend(place, what, 6500)  # 500 of debt, and what this call reserves: 6 seconds at least
    begun = time.monotonic()
    result = call(place, what, style)
    assert result.objects
    assert time.monotonic() - begun > 2
    if what.sdk == "gemini":  # Google's SDK doubles its own waits instead
        assert result.wire.exchanges > 2
    else:
        assert result.wire.exchanges == 2


@pytest.mark.parametrize("style", STYLES)
def test_an_sdk_that_waits_succeeds(start: Start, style: Style) -> None:
    place = start(tokens_per_minute=6000)
    with ThreadPoolExecutor() as threads:
        done = [threads.submit(retried, place(CALLS[name].sdk), name, style) for name in SIMPLE]
        for each in done:
            each.result()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", SIMPLE)
def test_half_a_credential_is_an_authentication_error(
    start: Start, name: str, style: Style
) -> None:
    what = CALLS[name]
    place = replace(start(tokens_per_minute=600)(what.sdk), key="half")
    with pytest.raises(UNAUTHENTICATED[what.sdk], match="invalid_token") as caught:
        call(place, what, style)
    error: Any = caught.value
    assert error.response.status_code == 401


def test_many_calls_at_once_are_refused_alike(upstream: Upstream, start: Start) -> None:
    what = with_headers(case("chat-text"), {"X-Tokens": "300", "X-Case": uuid4().hex})
    place = start(tokens_per_minute=600)(what.sdk)
    seen = len(upstream.seen)

    async def all_at_once() -> list[object]:
        async with waiting(place, what.sdk, Wire()) as sdk:
            create = sdk.chat.completions.create
            calls = (create(**what.arguments, extra_headers=what.headers) for _ in range(12))
            return await asyncio.gather(*calls, return_exceptions=True)

    refused = [each for each in asyncio.run(all_at_once()) if isinstance(each, Exception)]
    assert {type(each) for each in refused} == {openai.RateLimitError}
    assert len(refused) == 12 - (len(upstream.seen) - seen)
