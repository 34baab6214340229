"""Calls of the vendors' SDKs are the same through the proxy and without it (§10, §11).

Every call is made at the upstream itself and then, twice, through a door of the daemon. Parsed
objects, the response's bytes and fields, and what the upstream received must not differ but for
what is the proxy's own. The day's budget must fall by exactly what the upstream billed.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import pytest

from tests.sdks.calls import CALLS
from tests.sdks.clients import CREDENTIAL, JWT, KEY, STYLES, Call, Place, Result, Sdk, Style, call
from tests.upstreams.llm import Seen, Upstream

Door = Literal["reverse", "prefixed", "composite", "passthrough"]
DOORS: tuple[Door, ...] = ("reverse", "prefixed", "composite", "passthrough")
PROVIDER: dict[Sdk, str] = {"openai": "openai", "azure": "openai", "anthropic": "anthropic",
                            "gemini": "gemini"}  # fmt: skip
KEY_HEADER = {"openai": ("authorization", f"Bearer {KEY}"), "anthropic": ("x-api-key", KEY),
              "gemini": ("x-goog-api-key", KEY)}  # fmt: skip
FREE = {"messages-count", "content-count"}
"""Calls whose answers report no usage: their reservation stays charged (§11.1)."""

RULE = {
    "name": "tokens",
    "limit_keys": ["llm:provider"],
    "algorithm": "token_bucket_llm",
    "algorithm_config": {
        "tokens_per_minute": 10**12,
        "tokens_per_day": 10**9,
        "default_max_completion": 100,
        "max_completion_tokens": 10**6,
    },
}
SPEC = {"selector": {"pathPrefix": "/"}, "rules": [RULE]}
BUNDLE = {"bundle_version": 1, "policies": [{"id": "llm", "spec": SPEC}]}

INJECTED = b'"stream_options":{"include_usage":true},'
# Framing, addresses and keys, which have tests of their own.
OWN_REQUEST_FIELDS = {"host", "connection", "content-length", "accept-encoding", "x-forwarded-for",
                      "authorization", "api-key", "x-api-key", "x-goog-api-key"}  # fmt: skip
OWN_RESPONSE_FIELDS = ("connection", "keep-alive", "ratelimit", "x-fairvisor-reservation")


@pytest.fixture(name="upstream", scope="module")
def _upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(name="places", scope="module")
def _places(serve_all: Callable[..., Any], upstream: Upstream) -> Callable[[Door, Sdk], Place]:
    started: dict[str, str] = {}

    def url(name: str, **settings: object) -> str:
        if name not in started:
            started[name] = f"http://127.0.0.1:{serve_all(BUNDLE, **settings).port}"
        return started[name]

    def place(door: Door, sdk: Sdk) -> Place:
        provider = PROVIDER[sdk]
        if door in {"composite", "passthrough"}:
            upstreams = {f"provider_{name}_url": upstream.url for name in KEY_HEADER}
            base = url(door, mode="wrapper", wrapper_auth=door, **upstreams)
            if door == "composite":
                return Place(f"{base}/{provider}", CREDENTIAL, bearer=True)
            return Place(f"{base}/{provider}", bearer=sdk == "azure")
        # Azure's own paths begin with the segment that is a prefix here.
        path = "/openai" if (door, sdk) == ("reverse", "azure") else ""
        base = url(
            f"{provider}{path}",
            mode="reverse_proxy",
            llm_format=provider,
            backend_url=upstream.url + path,
        )
        return Place(f"{base}/{provider}" if door == "prefixed" else base)

    return place


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_the_same(
    upstream: Upstream, places: Callable[[Door, Sdk], Place], name: str, door: Door, style: Style
) -> None:
    what = CALLS[name]
    place = places(door, what.sdk)
    direct = call(Place(upstream.url, bearer=what.sdk == "azure" and place.bearer), what, style)
    asked = upstream.seen[-1]
    proxied = call(place, what, style)
    received = upstream.seen[-1]

    assert proxied.dumps == direct.dumps
    assert bytes(proxied.wire.body) == bytes(direct.wire.body)
    assert _fields(proxied) == _fields(direct)
    assert dict(proxied.wire.headers)["ratelimit-limit"] == str(10**9)

    assert (received.method, received.target) == (asked.method, asked.target)
    assert received.body == _as_sent_on(what, asked)
    assert _request_fields(received) == _request_fields(asked)
    if door in {"composite", "passthrough"}:
        header, value = KEY_HEADER[PROVIDER[what.sdk]]
        assert [(k.lower(), v) for k, v in received.headers if KEY in v] == [(header, value)]
        assert JWT not in str(received.headers)

    again = call(place, what, style)
    fell = _remaining(proxied) - _remaining(again)
    assert received.complete
    assert fell == received.billed if name not in FREE else fell > 0


def _fields(result: Result) -> list[tuple[str, str]]:
    return sorted(
        each for each in result.wire.headers if not each[0].startswith(OWN_RESPONSE_FIELDS)
    )


def _request_fields(seen: Seen) -> list[tuple[str, str]]:
    named = ((name.lower(), value) for name, value in seen.headers)
    return sorted(each for each in named if each[0] not in OWN_REQUEST_FIELDS)


def _as_sent_on(what: Call, asked: Seen) -> bytes:
    """Return the body that the upstream should get: with the usage option, in some streams."""
    plain = what.method not in {"chat.completions.create", "completions.create"}
    if plain or not what.stream or "stream_options" in what.arguments:
        return asked.body
    return b"{" + INJECTED + asked.body[1:]


def _remaining(result: Result) -> int:
    return int(dict(result.wire.headers)["ratelimit-remaining"])


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ["chat-text", "messages-text-streamed", "content-text"])
def test_an_error_of_the_upstream_is_the_same(
    upstream: Upstream, places: Callable[[Door, Sdk], Place], name: str, style: Style
) -> None:
    what = replace(CALLS[name], headers={"X-Mode": "error"})
    raised = []
    for place in (Place(upstream.url), places("composite", what.sdk)):
        with pytest.raises(Exception, match="upstream broke") as caught:
            call(place, what, style)
        raised.append(caught.value)
    direct, proxied = raised
    assert type(proxied) is type(direct)
    assert str(proxied) == str(direct)
