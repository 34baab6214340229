"""The vendors' own SDKs, with nothing changed but their base URL (extra `sdk`)."""

from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.upstreams.llm import Upstream

CREDENTIAL = "e30.eyJzdWIiOiJhbm4ifQ.sig:sk-upstream"
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
RULE = {
    "name": "tokens",
    "limit_keys": ["llm:provider", "jwt:sub"],
    "algorithm": "token_bucket_llm",
    "algorithm_config": {
        "tokens_per_minute": 9000,
        "default_max_completion": 100,
        "max_completion_tokens": 1000,
    },
}
SPEC = {"selector": {"pathPrefix": "/"}, "rules": [RULE]}
BUNDLE = {"bundle_version": 1, "policies": [{"id": "llm", "spec": SPEC}]}


def spend(call: Callable[[], object]) -> None:
    """Call more often than the budget allows."""
    for _ in range(100):
        call()


@pytest.fixture(name="base")
def _base(serve: Callable[..., Any]) -> Iterator[str]:
    with Upstream() as upstream:
        daemon = serve(
            BUNDLE,
            mode="wrapper",
            provider_openai_url=upstream.url,
            provider_anthropic_url=upstream.url,
        )
        yield f"http://127.0.0.1:{daemon.port}"


def test_openai(base: str) -> None:
    with openai.OpenAI(base_url=base + "/openai/v1", api_key=CREDENTIAL, max_retries=0) as sdk:
        answer = sdk.chat.completions.create(**ASK)
        assert (answer.choices[0].message.content, answer.usage.total_tokens) == (
            "tok " * 5,
            12,
        )
        events = list(sdk.chat.completions.create(**ASK, stream=True))
        assert "".join(each.choices[0].delta.content or "" for each in events) == "tok " * 5
        assert sdk.responses.create(model="m", input="hi").output_text == "tok " * 5
        long = {"X-Tokens": "5000"}
        cut = list(sdk.chat.completions.create(**ASK, stream=True, extra_headers=long))
        assert cut[-1].choices[0].finish_reason == "length"
        assert len(cut) <= 1100 + 1
        much = {"X-Tokens": "900"}
        with pytest.raises(openai.RateLimitError, match="tpm_exceeded") as caught:
            spend(lambda: sdk.chat.completions.create(**ASK, extra_headers=much))
        assert int(caught.value.response.headers["retry-after"]) >= 1


def test_anthropic(base: str) -> None:
    with anthropic.Anthropic(
        base_url=base + "/anthropic", auth_token=CREDENTIAL, max_retries=0
    ) as sdk:
        answer = sdk.messages.create(**ASK, max_tokens=50)
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 5)
        with sdk.messages.stream(**ASK, max_tokens=50) as stream:
            assert "".join(stream.text_stream) == "tok " * 5
            assert stream.get_final_message().stop_reason == "end_turn"
        long = {"X-Tokens": "5000"}
        with sdk.messages.stream(**ASK, max_tokens=5000, extra_headers=long) as stream:
            stream.until_done()
            assert stream.get_final_message().stop_reason == "max_tokens"
        much = {"X-Tokens": "900"}
        with pytest.raises(anthropic.RateLimitError, match="tpm_exceeded"):
            spend(lambda: sdk.messages.create(**ASK, max_tokens=900, extra_headers=much))


def test_a_bad_credential_is_an_authentication_error(base: str) -> None:
    with (
        openai.OpenAI(base_url=base + "/openai/v1", api_key="half", max_retries=0) as sdk,
        pytest.raises(openai.AuthenticationError),
    ):
        sdk.chat.completions.create(**ASK)
