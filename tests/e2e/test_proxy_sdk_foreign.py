"""The vendors' SDKs, and an upstream that others wrote: the same through the proxy and without it.

Its answers hold random names and the time, which are masked.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.foreign.aimock_server import aimock
from tests.sdks.calls import CALLS
from tests.sdks.clients import CREDENTIAL, STYLES, Place, Style, call

RULE = {
    "name": "tokens",
    "limit_keys": ["jwt:sub"],
    "algorithm": "token_bucket_llm",
    "algorithm_config": {
        "tokens_per_minute": 10**9,
        "default_max_completion": 100,
        "max_completion_tokens": 1000,
    },
}
SPEC = {"selector": {"pathPrefix": "/"}, "rules": [RULE]}
BUNDLE = {"bundle_version": 1, "policies": [{"id": "llm", "spec": SPEC}]}

KNOWN = re.compile(r"(chat|responses|messages|content)-(text|tools|image|thinking|usage)|azure")
NAMES = [name for name in CALLS if KNOWN.match(name)]
_NAME = re.compile(rb'"(chatcmpl|cmpl|resp|msg|fc|call|toolu|rs|req|item|rsn|reason)[-_][\w-]{8,}"')
_TIME = re.compile(rb'"(created|created_at|completed_at)":\d+(\.\d+)?')


@pytest.fixture(name="upstream", scope="module")
def _upstream() -> Iterator[str]:
    with aimock() as url:
        yield url


@pytest.fixture(name="wrapper", scope="module")
def _wrapper(serve_all: Callable[..., Any], upstream: str) -> str:
    urls = {f"provider_{name}_url": upstream for name in ("openai", "anthropic", "gemini")}
    return f"http://127.0.0.1:{serve_all(BUNDLE, mode='wrapper', **urls).port}"


def masked(body: bytes) -> bytes:
    """Return a body without what differs from call to call."""
    return _TIME.sub(rb'"\1":0', _NAME.sub(rb'"\1"', body))


# It gives Gemini's calls of tools an end that Google's SDK does not know.
@pytest.mark.filterwarnings("ignore:FUNCTION_CALL is not a valid FinishReason:UserWarning")
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", NAMES)
def test_a_call_is_the_same(upstream: str, wrapper: str, name: str, style: Style) -> None:
    what = CALLS[name]
    provider = "openai" if what.sdk == "azure" else what.sdk
    direct = call(Place(upstream), what, style)
    proxied = call(Place(f"{wrapper}/{provider}", CREDENTIAL, bearer=True), what, style)
    assert direct.wire.status == proxied.wire.status == 200
    assert len(direct.objects) == len(proxied.objects) > 0
    assert masked(bytes(proxied.wire.body)) == masked(bytes(direct.wire.body))
    assert [type(each) for each in proxied.objects] == [type(each) for each in direct.objects]
    assert dict(proxied.wire.headers)["ratelimit-limit"] == str(10**9)
