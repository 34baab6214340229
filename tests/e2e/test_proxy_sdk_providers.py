"""OpenAI's SDK at every provider and server that is compatible with OpenAI (§10.4)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from daemon.llm.providers import PROVIDERS
from tests.sdks.calls import CALLS
from tests.sdks.clients import CREDENTIAL, KEY, STYLES, Call, Place, Style, call
from tests.upstreams.llm import Upstream

COMPATIBLE = [name for name, provider in PROVIDERS.items() if provider.family == "openai"]
OWN_KINDS = {"mistral": "mistral", "perplexity": "mistral", "groq": "groq", "ollama": "ollama"}
"""Providers whose streams have ways of their own."""
SERVERS = ["vllm", "ollama", "litellm", "groq", "router"]

RULE = {
    "name": "tokens",
    "limit_keys": ["llm:provider"],
    "algorithm": "token_bucket_llm",
    "algorithm_config": {
        "tokens_per_minute": 10**12,
        "tokens_per_day": 10**9,
        "default_max_completion": 100,
    },
}
SPEC = {"selector": {"pathPrefix": "/"}, "rules": [RULE]}
BUNDLE = {"bundle_version": 1, "policies": [{"id": "llm", "spec": SPEC}]}


@pytest.fixture(name="upstream", scope="module")
def _upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(name="wrapper", scope="module")
def _wrapper(serve_all: Callable[..., Any], upstream: Upstream) -> str:
    urls = {f"provider_{name.replace('-', '_')}_url": upstream.url for name in COMPATIBLE}
    return f"http://127.0.0.1:{serve_all(BUNDLE, mode='wrapper', **urls).port}"


@pytest.fixture(name="backend", scope="module")
def _backend(serve_all: Callable[..., Any], upstream: Upstream) -> str:
    daemon = serve_all(BUNDLE, mode="reverse_proxy", llm_format="openai", backend_url=upstream.url)
    return f"http://127.0.0.1:{daemon.port}"


def told(name: str, server: str, **options: object) -> Call:
    """Return a call that a certain server answers."""
    what = CALLS[name]
    headers = {"X-Server": server} if server else {}
    return replace(what, arguments={**what.arguments, **options}, headers=headers)


def compare(upstream: Upstream, place: Place, what: Call, style: Style) -> None:
    """Call with and without the proxy, and look at the bill."""
    direct = call(Place(upstream.url), what, style)
    proxied = call(place, what, style)
    assert direct.objects
    assert proxied.dumps == direct.dumps
    assert bytes(proxied.wire.body) == bytes(direct.wire.body)
    billed = upstream.seen[-1].billed
    again = call(place, what, style)
    fell = [int(dict(each.wire.headers)["ratelimit-remaining"]) for each in (proxied, again)]
    assert fell[0] - fell[1] == billed


@pytest.mark.parametrize("name", ["chat-tools", "chat-image-streamed"])
@pytest.mark.parametrize("provider", COMPATIBLE)
def test_a_provider_answers_as_it_does(
    upstream: Upstream, wrapper: str, provider: str, name: str
) -> None:
    place = Place(f"{wrapper}/{provider}", CREDENTIAL, bearer=True)
    compare(upstream, place, told(name, OWN_KINDS.get(provider, "")), "sync")
    sent = upstream.seen[-1]
    assert sent.target == "/v1/chat/completions"
    assert sent.header("authorization") == ("" if provider == "ollama" else f"Bearer {KEY}")
    asks = name.endswith("streamed") and PROVIDERS[provider].usage_option
    assert (b"include_usage" in sent.body) == asks


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("server", SERVERS)
def test_a_server_streams_as_it_does(
    upstream: Upstream, backend: str, server: str, style: Style
) -> None:
    compare(upstream, Place(backend), told("chat-image-streamed", server), style)
    assert b"include_usage" in upstream.seen[-1].body


@pytest.mark.parametrize("server", SERVERS)
def test_a_client_that_wants_usage_gets_it(upstream: Upstream, backend: str, server: str) -> None:
    wanted = {"include_usage": True, "continuous_usage_stats": True}
    what = told("chat-image-streamed", server, stream_options=wanted)
    compare(upstream, Place(backend), what, "sync")


def test_a_client_that_wants_other_options_only(upstream: Upstream, backend: str) -> None:
    what = told("chat-image-streamed", "", stream_options={"include_obfuscation": False})
    compare(upstream, Place(backend), what, "sync")
    assert b'"stream_options":{"include_obfuscation":false,"include_usage":true}' in (
        upstream.seen[-1].body
    )
