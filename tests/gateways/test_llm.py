"""Tokens through a gateway: bodies that the daemon sees, usage that is settled (§7.4, §7.5)."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import wait_for
from tests.gateways.bundles import TOKENS
from tests.gateways.echo import Reply
from tests.gateways.gateways import SUBJECTS, Subject
from tests.gateways.site import Site

PATIENCE = 60.0
RESERVED = 9_000
USED = 100
SLACK = 600
"""What a bucket may have got back while a loaded machine was at it, and what probes take."""


def sse(*events: tuple[str, Any]) -> bytes:
    """Return an event stream."""
    lines = []
    for name, data in events:
        if name:
            lines.append(f"event: {name}\n")
        text = data if isinstance(data, str) else json.dumps(data)
        lines.append(f"data: {text}\n\n")
    return "".join(lines).encode()


OPENAI = {"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 60}}
DELTA = {"choices": [{"delta": {"content": 'a "usage": {} of words'}}], "usage": None}
ANTHROPIC = {
    "type": "message",
    "content": [{"type": "text", "text": "words"}],
    "usage": {"input_tokens": 10, "cache_read_input_tokens": 30, "output_tokens": 60},
}
GEMINI = {
    "candidates": [],
    "usageMetadata": {"promptTokenCount": 40, "candidatesTokenCount": 60, "totalTokenCount": 100},
}
STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"
HUNDRED = {
    "openai": Reply(JSON, json.dumps(OPENAI, indent=2).encode()),
    "openai-stream": Reply(STREAM, sse(("", DELTA), ("", DELTA), ("", OPENAI), ("", "[DONE]"))),
    "responses": Reply(
        JSON, json.dumps({"usage": {"input_tokens": 40, "output_tokens": 60}}).encode()
    ),
    "responses-stream": Reply(
        STREAM,
        sse(
            ("response.created", {"response": {"usage": None}}),
            (
                "response.completed",
                {"response": {"usage": {"input_tokens": 40, "output_tokens": 60}}},
            ),
        ),
    ),
    "anthropic": Reply(JSON, json.dumps(ANTHROPIC).encode()),
    "anthropic-stream": Reply(
        STREAM,
        sse(
            (
                "message_start",
                {
                    "type": "message_start",
                    "message": {
                        "type": "message",
                        "usage": {
                            "input_tokens": 10,
                            "cache_read_input_tokens": 30,
                            "output_tokens": 1,
                        },
                    },
                },
            ),
            ("content_block_delta", {"delta": {"text": "words"}}),
            ("message_delta", {"type": "message_delta", "usage": {"output_tokens": 60}}),
            ("message_stop", {"type": "message_stop"}),
        ),
    ),
    "gemini": Reply(JSON, json.dumps(GEMINI).encode()),
    "gemini-list": Reply(JSON, json.dumps([{"candidates": []}, GEMINI]).encode()),
    "gemini-stream": Reply(
        STREAM.upper(), sse(("", {"usageMetadata": {"promptTokenCount": 40}}), ("", GEMINI))
    ),
}
"""Answers of providers that used 40 tokens of prompt and 60 of completion."""
NOTHING = {
    "error": Reply(JSON, b'{"error": {"message": "overloaded"}}', status=529),
    "odd-error": Reply("text/html", b"<h1>no</h1>", status=500),
}
KEPT = {
    "no-usage": Reply(JSON, b'{"choices": []}'),
    "not-json": Reply(JSON, b'{"usage": {'),
    "broken-stream": Reply(STREAM, sse(("", DELTA))),
    "hidden": Reply("text/plain", b"usage"),
}

SENDING = [subject for subject in SUBJECTS if subject.gateway.sends_body]
SETTLING = [subject for subject in SUBJECTS if subject.gateway.settles]


@pytest.fixture(name="llm_site", scope="module")
def _llm_site(contract_site: Site) -> Site:
    contract_site.service.replies |= {
        f"/llm/{name}": reply for name, reply in (HUNDRED | NOTHING | KEPT).items()
    }
    return contract_site


def body(tokens: int) -> bytes:
    return json.dumps({"model": "m", "max_tokens": tokens, "messages": []}).encode()


def left(site: Site, key: str) -> int:
    """Return what the bucket holds, by a request that reserves next to nothing."""
    answer = site.ask("/llm/openai", {"X-Key": key, **JSON_BODY}, "POST", body(1))
    assert answer.status == 200
    return int(site.told(answer)["ratelimit-remaining"])


JSON_BODY = {"Content-Type": "application/json"}


def spend(site: Site, key: str, name: str) -> None:
    """Have a provider's answer relayed whole, and a large reservation made for it."""
    reply = site.service.replies[f"/llm/{name}"]
    answer = site.ask(f"/llm/{name}", {"X-Key": key, **JSON_BODY}, "POST", body(RESERVED))
    assert (answer.status, answer.body) == (reply.status, reply.body)
    assert "x-fairvisor-reservation" not in answer.headers
    remaining = int(site.told(answer)["ratelimit-remaining"])
    assert TOKENS - RESERVED - USED <= remaining <= TOKENS - RESERVED


def settled(site: Site, key: str) -> bool:
    """Return whether nearly everything is back."""
    return left(site, key) > TOKENS - USED - SLACK


def of(subjects: list[Subject]) -> Callable[[Any], Any]:
    """Parametrise over those gateways only that can do it."""
    ways = [(subject, way) for subject in subjects for way in subject.ways[:1]]
    names = [subject.name for subject in subjects]
    return pytest.mark.parametrize("contract_site", ways, ids=names, indirect=True)


@of(SENDING)
def test_the_body_is_what_a_request_is_charged_by(llm_site: Site, a_key: str) -> None:
    headers = {"X-Key": a_key, **JSON_BODY}
    large = llm_site.ask("/llm/openai", headers, "POST", body(TOKENS + 1))
    assert large.status == 429
    assert large.headers["x-fairvisor-reason"] == "tpm_exceeded"
    answer = llm_site.ask("/llm/openai", headers, "POST", body(2000))
    remaining = int(llm_site.told(answer)["ratelimit-remaining"])
    assert TOKENS - 2000 - USED < remaining <= TOKENS - 2000


@of(SENDING)
def test_bodies_in_chunks_and_bodies_on_disk_are_charged_whole(llm_site: Site, a_key: str) -> None:
    prompt = {"messages": [{"role": "user", "content": "word " * 5000}], "max_tokens": 1}
    large = json.dumps(prompt).encode()
    with llm_site.daemon.connect() as direct:
        asked = {"X-Original-URI": "/llm/openai", "X-Key": f"{a_key}-direct", **JSON_BODY}
        expected = direct.request(headers=asked, method="POST", body=large)
    spent = TOKENS - int(expected.headers["ratelimit-remaining"])
    assert spent > 1000
    for name, sent in (("sized", large), ("chunked", iter([large[:9000], large[9000:]]))):
        headers = {"X-Key": f"{a_key}-{name}", **JSON_BODY}
        if name == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        answer = llm_site.ask("/llm/openai", headers, "POST", sent)
        assert int(llm_site.told(answer)["ratelimit-remaining"]) == TOKENS - spent


@of(SETTLING)
@pytest.mark.parametrize("name", HUNDRED)
def test_what_was_reserved_too_much_is_given_back(llm_site: Site, a_key: str, name: str) -> None:
    spend(llm_site, a_key, name)
    wait_for(lambda: settled(llm_site, a_key), PATIENCE, "the settlement")
    assert left(llm_site, a_key) <= TOKENS - USED + SLACK


@of(SETTLING)
@pytest.mark.parametrize("name", NOTHING)
def test_an_error_gives_everything_back(llm_site: Site, a_key: str, name: str) -> None:
    spend(llm_site, a_key, name)
    wait_for(lambda: settled(llm_site, a_key), PATIENCE, "the settlement")


@of(SETTLING)
@pytest.mark.parametrize("name", KEPT)
def test_an_answer_without_usage_stays_charged(llm_site: Site, a_key: str, name: str) -> None:
    spend(llm_site, a_key, name)
    # Settlements come in order of the answers: once a later one has come, this one will not.
    spend(llm_site, f"{a_key}-later", "openai")
    wait_for(lambda: settled(llm_site, f"{a_key}-later"), PATIENCE, "a later one")
    assert left(llm_site, a_key) < TOKENS - RESERVED + SLACK
