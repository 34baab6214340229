"""What the plugin reads of a provider's answers is what is charged (behaviour §7.4, §7.5, §11)."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.gateways.kong.stage import Gate, Reply


def left(ask: Callable[..., Reply], team: str) -> int:
    """Return what is left of a team's day, by asking for nothing that is answered."""
    headers = {"X-Team": team, "X-Mode": "error"}
    body = json.dumps({"max_tokens": 1, "messages": []})
    reply = ask("/v1/chat/completions", headers, "POST", body)
    return int(reply[1]["ratelimit-remaining"])


PATHS = [
    ("/v1/chat/completions", {"stream": True, "stream_options": {"include_usage": True}}),
    ("/v1/chat/completions", {}),
    ("/v1/messages", {"stream": True}),
    ("/v1/messages", {}),
    ("/v1/responses", {"stream": True}),
    ("/v1beta/models/gemini-pro:streamGenerateContent?alt=sse", {}),
    ("/v1beta/models/gemini-pro:streamGenerateContent", {}),
    ("/v1beta/models/gemini-pro:generateContent", {}),
]


@pytest.mark.parametrize(("path", "extra"), PATHS)
def test_what_the_answer_used_is_what_is_charged(
    gate: Gate, wait_until: Callable[..., None], path: str, extra: dict[str, Any]
) -> None:
    ask, upstream, daemon = gate
    prefix = "/v1beta/" if path.startswith("/v1beta/") else "/v1/"
    team = f"{path}{len(extra)}"
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **extra})
    headers = {"X-Team": team, "X-Tokens": "40", "Accept-Encoding": "gzip"}
    status, fields, answer = ask(path, headers, "POST", body)
    assert status == 200, answer
    assert "x-fairvisor-reservation" not in fields or fields["x-fairvisor-reservation"] == "forged"
    assert upstream.seen[-1].header("accept-encoding") == ""
    billed = upstream.seen[-1].billed
    assert billed >= 47 or extra.get("stream")

    def day() -> int:
        with daemon.connect() as connection:
            reply = connection.request(
                headers={"X-Original-URI": f"{prefix}probe", "X-Team": team}, method="GET"
            )
        return int(reply.headers["ratelimit-remaining"])

    # Each probe reserves 500 itself and is never settled.
    probes = 0

    def settled() -> bool:
        nonlocal probes
        probes += 1
        return day() == 1_000_000 - billed - 500 * probes

    wait_until(settled, 20.0, "settled by what was used")


def test_an_answer_that_failed_costs_nothing(gate: Gate, wait_until: Callable[..., None]) -> None:
    ask, _, _ = gate

    def restored() -> bool:
        return left(ask, "failing") > 1_000_000 - 20

    for _ in range(20):
        left(ask, "failing")
    wait_until(restored, 20.0, "given back")


def test_a_long_body_counts_by_its_length(gate: Gate) -> None:
    ask, upstream, _ = gate
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 2_000_000}]})
    headers = {"X-Team": "long", "X-Mode": "echo"}
    status, fields, _ = ask("/v1/chat/completions", headers, "POST", body)
    assert status == 200
    assert upstream.seen[-1].body == body.encode()
    assert int(fields["ratelimit-remaining"]) <= 500_000 - 500


def test_a_body_in_a_file_is_sent_too(gate: Gate) -> None:
    ask, _, _ = gate
    body = json.dumps({"max_tokens": 100_000, "messages": [{"content": "x" * 100_000}]})
    fields = ask("/v1/chat/completions", {"X-Team": "file", "X-Mode": "echo"}, "POST", body)[1]
    left_over = int(fields["ratelimit-remaining"])
    assert 1_000_000 - 100_000 - 30_000 < left_over < 1_000_000 - 100_000 - 20_000
