"""A stream that is cut ends normally for the vendors' SDKs, and is billed what was made (§11.3).

The upstream would write 5,000 tokens; 1,000 are allowed and looked at every 100.
"""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from google.genai import types

from tests.sdks.calls import CALLS
from tests.sdks.clients import (
    CREDENTIAL,
    STYLES,
    Call,
    Place,
    Sdk,
    Style,
    blocking,
    call,
    waiting,
    with_headers,
)
from tests.sdks.wire import Wire
from tests.upstreams.llm import Upstream

LONG = {"X-Tokens": "5000"}
CAP = 1000
BUFFER = 100

RULE = {
    "name": "tokens",
    "limit_keys": ["jwt:sub"],
    "algorithm": "token_bucket_llm",
    "algorithm_config": {
        "tokens_per_minute": 10**12,
        "tokens_per_day": 10**9,
        "default_max_completion": 100,
        "max_completion_tokens": CAP,
        "streaming": {"buffer_tokens": BUFFER},
    },
}
SPEC = {"selector": {"pathPrefix": "/"}, "rules": [RULE]}
BUNDLE = {"bundle_version": 1, "policies": [{"id": "llm", "spec": SPEC}]}

Places = Callable[[Sdk], Place]


@pytest.fixture(name="upstream", scope="module")
def _upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(name="place", scope="module")
def _place(serve_all: Callable[..., Any], upstream: Upstream) -> Places:
    providers = ("openai", "anthropic", "gemini")
    urls = {f"provider_{name}_url": upstream.url for name in providers}
    port = serve_all(BUNDLE, mode="wrapper", **urls).port

    def place(sdk: Sdk) -> Place:
        provider = "openai" if sdk == "azure" else sdk
        return Place(f"http://127.0.0.1:{port}/{provider}", CREDENTIAL, bearer=True)

    return place


def chat_end(chunks: list[Any]) -> tuple[object, str, int]:
    last = chunks[-1]
    assert (last.id, last.model) == (chunks[1].id, "m-1")
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens
    text = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
    return last.choices[0].finish_reason, text, last.usage.completion_tokens


def completion_end(chunks: list[Any]) -> tuple[object, str, int]:
    text = "".join(each.choices[0].text for each in chunks)
    return chunks[-1].choices[0].finish_reason, text, chunks[-1].usage.completion_tokens


def response_end(events: list[Any]) -> tuple[object, str, int]:
    assert [each.type for each in events[-4:]] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    final = events[-1].response
    assert (final.id, final.status) == ("resp_1", "incomplete")
    assert final.output[-1].status == "incomplete"
    deltas = "".join(each.delta for each in events if each.type == "response.output_text.delta")
    assert final.output_text == deltas
    return final.incomplete_details.reason, deltas, final.usage.output_tokens


def message_end(events: list[Any]) -> tuple[object, str, int]:
    assert [each.type for each in events[-3:]] == [
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    deltas = (each.delta for each in events if each.type == "content_block_delta")
    text = "".join(each.text for each in deltas)
    return events[-2].delta.stop_reason, text, events[-2].usage.output_tokens


def content_end(chunks: list[types.GenerateContentResponse]) -> tuple[object, str, int]:
    last: Any = chunks[-1]
    text = "".join(each.text or "" for each in chunks)
    reason = last.candidates[0].finish_reason.value
    return reason, text, last.usage_metadata.candidates_token_count


def plain(name: str) -> Call:
    """Return a call without reasoning, which would be counted beside the text."""
    asked = {k: v for k, v in CALLS[name].arguments.items() if k != "reasoning"}
    return replace(CALLS[name], arguments={**asked, **_more(name)}, headers=LONG)


def _more(name: str) -> dict[str, Any]:
    return {"max_tokens": 5000} if name.startswith("messages") else {}


CUTS: list[tuple[str, Callable[[list[Any]], tuple[object, str, int]], str]] = [
    ("chat-image-streamed", chat_end, "length"),
    ("chat-usage-streamed", chat_end, "length"),
    ("azure-streamed", chat_end, "length"),
    ("completions-streamed", completion_end, "length"),
    ("responses-text-streamed", response_end, "max_output_tokens"),
    ("messages-text-streamed", message_end, "max_tokens"),
    ("content-text-streamed", content_end, "MAX_TOKENS"),
]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("name", "read", "reason"), CUTS)
def test_a_stream_is_cut_and_ends(
    place: Places,
    name: str,
    read: Callable[[list[Any]], tuple[object, str, int]],
    reason: str,
    style: Style,
) -> None:
    what = plain(name)
    result = call(place(what.sdk), what, style)
    found, text, completion = read(result.objects)
    assert found == reason
    # The event that crosses does not pass; looked at every `BUFFER` tokens.
    assert text == "tok " * (CAP + BUFFER - 1)
    assert completion == CAP + BUFFER
    again = call(place(what.sdk), what, style)
    fell = [int(dict(each.wire.headers)["ratelimit-remaining"]) for each in (result, again)]
    assert fell[0] - fell[1] == _prompt(what, result.objects) + completion


def _prompt(what: Call, objects: list[Any]) -> int:
    """Return the prompt tokens that the end of a stream reports."""
    match what.sdk:
        case "anthropic":
            usage = objects[0].message.usage
            read, written = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
            return int(usage.input_tokens + read + written)
        case "gemini":
            return int(objects[-1].usage_metadata.prompt_token_count)
    if what.method == "responses.create":
        return int(objects[-1].response.usage.input_tokens)
    return int(objects[-1].usage.prompt_tokens)


@pytest.mark.parametrize("style", STYLES)
def test_every_choice_ends(place: Places, style: Style) -> None:
    what = with_headers(CALLS["chat-choices-streamed"], LONG)
    chunks = call(place("openai"), what, style).objects
    assert [(c.index, c.finish_reason) for c in chunks[-1].choices] == [
        (0, "length"),
        (1, "length"),
    ]


Finish = Callable[[Any], tuple[str, object]]


def chat_snapshot(completion: Any) -> tuple[str, object]:  # noqa: ANN401 - three vendors' models
    return completion.choices[0].message.content, completion.choices[0].finish_reason


def message_snapshot(message: Any) -> tuple[str, object]:  # noqa: ANN401
    return message.content[0].text, message.stop_reason


# OpenAI's `get_final_completion` raises for any answer that ends for its length.
HELPERS: list[tuple[str, str, str, Finish, str]] = [
    ("chat-image", "chat.completions", "current_completion_snapshot", chat_snapshot, "length"),
    ("messages-text", "messages", "get_final_message", message_snapshot, "max_tokens"),
]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("name", "where", "final", "read", "reason"), HELPERS)
def test_the_helpers_that_put_streams_together(  # noqa: PLR0913 - the columns of the table
    place: Places, name: str, where: str, final: str, read: Finish, reason: str, style: Style
) -> None:
    what = plain(name)

    async def run() -> object:
        async with _helper(place(what.sdk), what, where, style) as stream:
            async for _ in stream:
                pass
            given = getattr(stream, final)
            if not callable(given):
                return given
            return await given() if style == "async" else given()

    assert read(asyncio.run(run())) == ("tok " * (CAP + BUFFER - 1), reason)


class _Blocking:
    """A blocking stream as an asynchronous one, so that one test drives both."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - an SDK's
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[object]:
        for each in self._stream:
            yield each

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@asynccontextmanager
async def _helper(place: Place, what: Call, where: str, style: Style) -> AsyncIterator[Any]:
    given = {**what.arguments, "extra_headers": dict(what.headers)}
    wire = Wire()
    if style == "sync":
        with blocking(place, what.sdk, wire) as sdk, _at(sdk, where).stream(**given) as stream:
            yield _Blocking(stream)
        return
    async with waiting(place, what.sdk, wire) as sdk:
        opened: AbstractAsyncContextManager[Any] = _at(sdk, where).stream(**given)
        async with opened as stream:
            yield stream


def _at(sdk: Any, where: str) -> Any:  # noqa: ANN401 - an SDK's resource
    for name in where.split("."):
        sdk = getattr(sdk, name)
    return sdk


@pytest.mark.parametrize("style", STYLES)
def test_the_helper_of_responses(place: Places, style: Style) -> None:
    what = plain("responses-text")

    async def run() -> list[Any]:
        async with _helper(place("openai"), what, "responses", style) as stream:
            return [each async for each in stream]

    last = asyncio.run(run())[-1]
    assert last.type == "response.incomplete"
    assert last.response.output_text == "tok " * (CAP + BUFFER - 1)


def test_a_json_array_ends_as_one(place: Places) -> None:
    # The SDK asks for events; clients without `alt=sse` get an array.
    host = place("gemini").url.removeprefix("http://").removesuffix("/gemini")
    connection = http.client.HTTPConnection(host, timeout=30)
    headers = {"Authorization": f"Bearer {CREDENTIAL}", **LONG}
    body = json.dumps({"contents": [{"parts": [{"text": "hi"}]}]})
    target = "/gemini/v1beta/models/m-1:streamGenerateContent"
    connection.request("POST", target, body, headers)
    array = json.loads(connection.getresponse().read())
    connection.close()
    chunks = [types.GenerateContentResponse.model_validate(each) for each in array]
    reason, text, completion = content_end(chunks)
    assert (reason, text) == ("MAX_TOKENS", "tok " * (CAP + BUFFER - 1))
    assert completion == CAP + BUFFER
