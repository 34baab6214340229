"""Calls that are no JSON, through a daemon that is proxy and decision service in one (§10.4).

Files go up and sound comes down through OpenAI's SDK in `hybrid`: what the upstream gets and what
the application gets are the same, byte for byte, and the decision API answers beside it.
"""

import asyncio
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

from tests.sdks.clients import KEY, STYLES, Place, Style, blocking, waiting
from tests.sdks.wire import Wire
from tests.upstreams.llm import Seen, Upstream

FILE = random.Random(4).randbytes(300_000)
LONG = random.Random(5).randbytes(5_000_000)
"""More than `FAIRVISOR_MAX_BODY_BYTES` here: it is passed on while it arrives."""

BUCKET = {
    "name": "requests",
    "limit_keys": [],
    "algorithm": "token_bucket",
    "algorithm_config": {"tokens_per_second": 1, "burst": 1000},
}
TOKENS = {
    "name": "tokens",
    "limit_keys": ["llm:provider"],
    "algorithm": "token_bucket_llm",
    "algorithm_config": {"tokens_per_minute": 10**9, "default_max_completion": 10},
}
BUNDLE = {
    "bundle_version": 1,
    "policies": [
        {"id": "api", "spec": {"selector": {"pathPrefix": "/api/"}, "rules": [BUCKET]}},
        {"id": "llm", "spec": {"selector": {"pathPrefix": "/openai/"}, "rules": [TOKENS]}},
    ],
}


class Serving(Protocol):
    """A running daemon."""

    port: int

    def decide(self, uri: str) -> Any: ...  # noqa: ANN401 - an answer of the fixtures' client
    def connect(self) -> Any: ...  # noqa: ANN401 - a connection of it


@dataclass(frozen=True)
class Upload:
    """One call that sends a file, and what it holds."""

    method: str
    content: bytes
    arguments: dict[str, Any] = field(default_factory=dict)


UPLOADS = {
    "file": Upload("files.create", FILE, {"purpose": "fine-tune"}),
    "long-file": Upload("files.create", LONG, {"purpose": "fine-tune"}),
    "sound": Upload("audio.transcriptions.create", FILE, {"model": "whisper-1"}),
}


@pytest.fixture(name="upstream", scope="module")
def _upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(name="daemon", scope="module")
def _daemon(serve_all: Callable[..., Serving], upstream: Upstream) -> Serving:
    return serve_all(
        BUNDLE,
        mode="hybrid",
        wrapper_auth="passthrough",
        provider_openai_url=upstream.url,
        max_body_bytes="2m",
    )


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", UPLOADS)
def test_a_file_goes_up_as_it_is(
    upstream: Upstream,
    daemon: Serving,
    name: str,
    style: Style,
) -> None:
    what = UPLOADS[name]
    direct = _send(Place(upstream.url), what, style)
    asked = upstream.seen[-1]
    proxied = _send(Place(f"http://127.0.0.1:{daemon.port}/openai"), what, style)
    received = upstream.seen[-1]
    assert what.content in _body(received)
    assert _body(received) == _body(asked)
    assert received.target == asked.target
    assert bytes(proxied.body) == received.body
    assert len(proxied.body) == len(direct.body)
    assert received.header("authorization") == f"Bearer {KEY}"


@pytest.mark.parametrize("style", STYLES)
def test_sound_comes_down_as_it_is(
    upstream: Upstream,
    daemon: Serving,
    style: Style,
) -> None:
    what = Upload("audio.speech.create", b"", {"model": "tts-1", "voice": "alloy", "input": "hi"})
    wires = [
        _send(place, what, style, mode="big")
        for place in (Place(upstream.url), Place(f"http://127.0.0.1:{daemon.port}/openai"))
    ]
    assert bytes(wires[0].body) == bytes(wires[1].body)
    assert len(wires[1].body) == 3_000_000


def test_the_decision_api_answers_beside_the_proxy(daemon: Serving) -> None:
    left = [int(daemon.decide("/api/x").headers["ratelimit-remaining"]) for _ in range(2)]
    assert left[0] - left[1] in {0, 1}, "one unit, or what refilled meanwhile"
    with daemon.connect() as connection:
        assert connection.request("/elsewhere/v1/models").status == 404


def _send(place: Place, what: Upload, style: Style, mode: str = "echo") -> Wire:
    wire = Wire()
    given = {**what.arguments, "extra_headers": {"X-Mode": mode}}
    if what.content:
        given["file"] = ("train.jsonl", what.content)
    if style == "sync":
        with blocking(place, "openai", wire) as sdk:
            _method(sdk, what.method)(**given)
    else:
        asyncio.run(_send_async(place, what.method, given, wire))
    return wire


async def _send_async(place: Place, method: str, given: dict[str, Any], wire: Wire) -> None:
    async with waiting(place, "openai", wire) as sdk:
        await _method(sdk, method)(**given)


def _method(sdk: object, path: str) -> Callable[..., Any]:
    """Return a method that gives the answer without reading it as JSON."""
    *owners, name = path.split(".")
    for owner in owners:
        sdk = getattr(sdk, owner)
    found: Callable[..., Any] = getattr(sdk.with_raw_response, name)  # type: ignore[attr-defined]
    return found


def _body(seen: Seen) -> bytes:
    """Return a body without the boundary, which every call draws anew."""
    boundary = re.search("boundary=([^;]+)", seen.header("content-type"))
    assert boundary
    return seen.body.replace(boundary[1].encode(), b"BOUNDARY")
