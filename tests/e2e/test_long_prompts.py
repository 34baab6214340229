"""A prompt that takes long to count by vocabulary lets other requests of its front pass."""

import json
import select
import time
from collections.abc import Callable
from typing import Any

import splintr

LIMIT = 10_000_000
WORDS = "Who may change the billing address of a team, and who is told about it? 0123 abc. "
TEXT = WORDS * 60_000
RULE = {
    "name": "tokens",
    "limit_keys": [],
    "algorithm": "token_bucket_llm",
    "algorithm_config": {
        "tokens_per_minute": 1_000_000_000,
        "tokens_per_day": LIMIT,
        "token_source": {"estimator": "tokenizer"},
        "default_max_completion": 100,
    },
}
SPEC = {"selector": {"pathPrefix": "/v1/chat/"}, "rules": [RULE]}
BUNDLE = {"bundle_version": 1, "policies": [{"id": "llm", "spec": SPEC}]}


def body(text: str) -> bytes:
    return json.dumps({"model": "gpt-4o", "messages": [{"content": text, "role": "user"}]}).encode()


def test_others_are_answered_while_a_long_prompt_is_counted_and_the_count_is_exact(
    serve: Callable[..., Any],
) -> None:
    daemon = serve(BUNDLE, fronts=1)
    tokens = len(splintr.Tokenizer.from_pretrained("o200k_base").encode_ordinary(TEXT))
    uri = {"X-Original-URI": "/v1/chat/completions", "X-Original-Method": "POST"}
    with daemon.connect() as long, daemon.connect() as other:
        # The vocabulary is loaded, so that only the prompt is long.
        assert other.request("/v1/decision", uri, "POST", body("a")).status == 200
        long.ask("/v1/decision", uri, "POST", body(TEXT))
        waits = []
        while not select.select([long.sock], [], [], 0)[0]:
            asked = time.monotonic()
            assert other.request("/livez").status == 200
            waits.append(time.monotonic() - asked)
        answer = long.answer()
    assert answer.status == 200
    reserved = LIMIT - int(answer.headers["ratelimit-remaining"])
    assert tokens + 100 <= reserved <= tokens + 100 + 200  # the first request's, too
    # Held up, another request waits for nearly all of it.
    assert max(waits) < sum(waits) / 2
