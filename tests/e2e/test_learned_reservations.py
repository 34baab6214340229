"""`"reservation": "learned"` through the real daemon: the proxy and `/v1/settle` teach a front."""

import http.client
import json
from collections.abc import Callable
from typing import Any

from tests.upstreams.llm import Upstream

ENOUGH = 20
PROMPT = 10
"""The prompt's estimate; what is reserved beyond it is for the answer."""
RULE = {
    "name": "tokens",
    "limit_keys": [],
    "algorithm": "token_bucket_llm",
    "algorithm_config": {
        "tokens_per_minute": 1_000_000_000,
        "tokens_per_day": 10_000,
        "reservation": "learned",
    },
}
SPEC = {"selector": {"pathPrefix": "/"}, "rules": [RULE]}
BUNDLE = {"bundle_version": 1, "policies": [{"id": "llm", "spec": SPEC}]}


def body(model: str, **more: object) -> bytes:
    messages = [{"role": "user", "content": "x" * 4 * PROMPT}]
    return json.dumps({"model": model, "messages": messages, **more}).encode()


def proxied(port: int, model: str, tokens: int, **more: object) -> int:
    """Return what was left of the day while a proxied call held its reservation."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"X-Tokens": str(tokens), "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", body(model, **more), headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        return int(answer.headers["RateLimit-Remaining"])
    finally:
        connection.close()


def test_the_proxy_learns_from_what_it_settles(
    serve: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    with Upstream() as upstream:
        daemon = serve(BUNDLE, mode="reverse_proxy", llm_format="openai", backend_url=upstream.url)
        used = 0
        for number in range(ENOUGH):
            left = proxied(daemon.port, "m", 20, stream=number % 2 == 0)
            assert left == 10_000 - used - PROMPT - 1000
            used += 7 + 20  # what the provider reports

            def settled(total: int = used) -> bool:
                return 10_000 - total == left_of_day(daemon)

            wait_until(settled, 30.0, "settled")
        assert proxied(daemon.port, "m", 20) == 10_000 - used - PROMPT - 20
        used += 27
        wait_until(lambda: 10_000 - used == left_of_day(daemon), 30.0, "settled")
        # Another model is unknown, and what a call says it may use still bounds it.
        assert proxied(daemon.port, "n", 20) == 10_000 - used - PROMPT - 1000
        used += 27
        wait_until(lambda: 10_000 - used == left_of_day(daemon), 30.0, "settled")
        assert proxied(daemon.port, "m", 5, max_tokens=5) == 10_000 - used - PROMPT - 5


def left_of_day(daemon: Any) -> int:  # noqa: ANN401 - the fixture's
    """Return what is left of the day's budget, asked with a request too big to be granted."""
    with daemon.connect() as connection:
        refused = connection.request(
            "/v1/chat/completions", {}, "POST", body("probe", max_tokens=10_000)
        )
    assert refused.headers["x-fairvisor-reason"] == "tpd_exceeded"
    return int(refused.headers["ratelimit-remaining"])


def test_settlements_of_a_gateway_teach_too(serve: Callable[..., Any]) -> None:
    daemon = serve(BUNDLE)
    for number in range(ENOUGH):
        assert ask(daemon, "m") == 10_000 - 30 * number - PROMPT - 1000
    assert ask(daemon, "m") == 10_000 - 30 * ENOUGH - PROMPT - 30
    assert ask(daemon, "n") == 10_000 - 30 * (ENOUGH + 1) - PROMPT - 1000


def ask(daemon: Any, model: str) -> int:  # noqa: ANN401 - the fixture's
    """Ask, settle with 30 tokens, and return what was left of the day in between."""
    with daemon.connect() as connection:
        allowed = connection.request("/v1/decision/v1/chat/completions", {}, "POST", body(model))
        reservation = allowed.headers["x-fairvisor-reservation"]
        usage = {"prompt_tokens": 0, "completion_tokens": 30}
        settlement = json.dumps({"reservation": reservation, "usage": usage}).encode()
        assert connection.request("/v1/settle", {}, "POST", settlement).status == 204
    return int(allowed.headers["ratelimit-remaining"])
