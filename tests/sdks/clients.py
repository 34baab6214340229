"""The vendors' SDKs, opened at any base URL and called by a method's name, blocking or not."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Literal

import anthropic
import openai
from google import genai
from google.genai import types

from tests.sdks.wire import Wire, async_client, client

Sdk = Literal["openai", "azure", "anthropic", "gemini"]
Style = Literal["sync", "async"]
STYLES: tuple[Style, ...] = ("sync", "async")

KEY = "sk-upstream:0f"
JWT = "e30.eyJzdWIiOiJhbm4ifQ.sig"
CREDENTIAL = f"{JWT}:{KEY}"
_RETRIES = {"openai": 0, "azure": 0, "anthropic": 0, "gemini": 1}
"""Settings for no retry at all; Google counts attempts."""


@dataclass(frozen=True)
class Place:
    """Where an SDK finds its API: the URL that stands for the vendor's host, and the key there.

    `bearer`: the key goes as `Authorization: Bearer`, not in the vendor's own header.
    """

    url: str
    key: str = KEY
    bearer: bool = False
    retries: int | None = None


@dataclass(frozen=True)
class Call:
    """One call of an SDK: the method, its arguments, headers for the upstream."""

    sdk: Sdk
    method: str
    arguments: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def stream(self) -> bool:
        """Whether it gives a stream."""
        return self.arguments.get("stream") is True or self.method.endswith("_stream")


def with_headers(what: Call, headers: Mapping[str, str]) -> Call:
    """Return a call with other headers."""
    return replace(what, headers=headers)


@dataclass(frozen=True)
class Result:
    """What a call gave: parsed objects (one, or a stream's), and what was on the wire."""

    objects: list[Any]
    wire: Wire

    @property
    def dumps(self) -> list[dict[str, Any]]:
        """The objects as plain values, without what says how they came."""
        return [dump(each) for each in self.objects]


def dump(value: Any) -> dict[str, Any]:  # noqa: ANN401 - three vendors' models
    """Return one object as plain values, marking the fields that were really there."""
    dumped: dict[str, Any] = value.model_dump(mode="json", exclude_unset=True)
    dumped.pop("sdk_http_response", None)  # headers: compared on their own
    return dumped


def call(place: Place, what: Call, style: Style) -> Result:
    """Make one call, and read its stream to the end."""
    if style == "async":
        return asyncio.run(_call_async(place, what))
    wire = Wire()
    with blocking(place, what.sdk, wire) as sdk:
        given = attrgetter(what.method)(sdk)(**_arguments(what))
        return Result(list(given) if what.stream else [given], wire)


async def _call_async(place: Place, what: Call) -> Result:
    wire = Wire()
    async with waiting(place, what.sdk, wire) as sdk:
        given = await attrgetter(what.method)(sdk)(**_arguments(what))
        return Result([each async for each in given] if what.stream else [given], wire)


def _arguments(what: Call) -> dict[str, Any]:
    if what.sdk != "gemini":
        return {**what.arguments, "extra_headers": dict(what.headers)}
    config = dict(what.arguments.get("config") or {})
    if what.headers:
        config["http_options"] = {"headers": dict(what.headers)}
    return {**what.arguments, "config": config or None}


@contextmanager
def blocking(place: Place, sdk: Sdk, wire: Wire) -> Iterator[Any]:
    """Open a blocking client for a while."""
    with client(wire) as http:
        common = _common(place, sdk, http)
        match sdk:
            case "openai":
                with openai.OpenAI(**_openai(place), **common) as found:
                    yield found
            case "azure":
                with openai.AzureOpenAI(**_azure(place), **common) as found:
                    yield found
            case "anthropic":
                with anthropic.Anthropic(**_anthropic(place), **common) as found:
                    yield found
            case "gemini":
                with _google(place, httpx_client=http) as found:
                    yield found


@asynccontextmanager
async def waiting(place: Place, sdk: Sdk, wire: Wire) -> AsyncIterator[Any]:
    """Open a client for asyncio for a while."""
    async with async_client(wire) as http:
        common = _common(place, sdk, http)
        match sdk:
            case "openai":
                async with openai.AsyncOpenAI(**_openai(place), **common) as found:
                    yield found
            case "azure":
                async with openai.AsyncAzureOpenAI(**_azure(place), **common) as found:
                    yield found
            case "anthropic":
                async with anthropic.AsyncAnthropic(**_anthropic(place), **common) as found:
                    yield found
            case "gemini":
                async with _google(place, httpx_async_client=http).aio as found:
                    yield found


def _common(place: Place, sdk: Sdk, http: object) -> dict[str, Any]:
    retries = _RETRIES[sdk] if place.retries is None else place.retries
    return {"max_retries": retries, "http_client": http}


def _openai(place: Place) -> dict[str, Any]:
    return {"base_url": f"{place.url}/v1", "api_key": place.key}


def _azure(place: Place) -> dict[str, Any]:
    key = "azure_ad_token" if place.bearer else "api_key"
    return {"azure_endpoint": place.url, "api_version": "2024-10-21", key: place.key}


def _anthropic(place: Place) -> dict[str, Any]:
    return {"base_url": place.url, "auth_token" if place.bearer else "api_key": place.key}


def _google(place: Place, **http: Any) -> genai.Client:  # noqa: ANN401 - passed on
    attempts = _RETRIES["gemini"] if place.retries is None else place.retries + 1
    options = types.HttpOptions(
        base_url=place.url,
        api_version="v1beta",
        headers={"Authorization": f"Bearer {place.key}"} if place.bearer else {},
        retry_options=types.HttpRetryOptions(attempts=attempts),
        **http,
    )
    key = "not-used" if place.bearer else place.key
    return genai.Client(api_key=key, vertexai=False, http_options=options)
