import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.llm.request import is_stream, parse_json, read, requested_maximum
from protocol.usage import MAX_TOKENS

NAMES = st.sampled_from(
    [
        "model", "messages", "content", "text", "type", "input", "prompt", "contents", "parts",
        "system", "tools", "tool_calls", "function", "arguments", "max_tokens", "stream",
        "max_completion_tokens", "generationConfig", "maxOutputTokens", "inlineData", "data",
        "source", "image_url", "input_audio", "usage", "requests",
    ]
)  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)


@given(anything)
def test_any_json_is_tolerated(value: object) -> None:
    request = read(json.dumps(value).encode(), "/v1/chat/completions")
    assert request.maximum is None or 0 < request.maximum <= MAX_TOKENS
    assert request.model is None or request.model


@given(st.binary())
def test_any_bytes_are_tolerated(body: bytes) -> None:
    assert read(body, "/").body == body


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 6}, 5),
        ({"max_tokens": 0, "max_completion_tokens": 6}, 6),
        ({"max_tokens": -1, "max_output_tokens": 7}, 7),
        ({"max_tokens": True, "generationConfig": {"maxOutputTokens": 8}}, 8),
        ({"generation_config": {"max_output_tokens": 9}}, 9),
        ({"max_tokens": "9"}, None),
        ({"max_tokens": 0.25}, 1),
        ({"max_tokens": 1e300}, MAX_TOKENS),
        ({"max_tokens": 10**400}, MAX_TOKENS),
        ({"generationConfig": [1]}, None),
        ([], None),
        (None, None),
    ],
)
def test_requested_maximum(body: object, expected: int | None) -> None:
    assert requested_maximum(body) == expected


def test_a_lone_surrogate_hides_nothing() -> None:
    request = read(rb'{"model":"m","max_tokens":9,"messages":[{"content":"\ud800"}]}', "/")
    assert (request.model, request.maximum) == ("m", 9)


def test_what_is_not_json() -> None:
    deep = b"[" * 100_000 + b"\\u"
    for body in (b"", b"{", b"\xff", b"NaN", deep, rb'{"a":"\u00"}'):
        assert parse_json(body) is None


def test_model_of_the_path_wins_where_the_upstream_obeys_it() -> None:
    path = "/v1beta/models/dear:generateContent"
    assert read(b'{"model":"cheap"}', path).model == "dear"
    assert read(b'{"model":"m"}', "/v1/chat/completions").model == "m"
    assert read(b'{"model":""}', "/v1/chat/completions").model is None
    assert read(b'{"model":7}', "/v1/chat/completions").model is None


def test_decision_requests_only_count_json() -> None:
    assert read(b"plain", "/", json_only=True).body == b""
    assert read(b"[]", "/", json_only=True).body == b"[]"


def test_stream_is_told_by_either_side() -> None:
    plain = read(b"{}", "/")
    assert not is_stream(plain, "/v1/messages", "", "application/json")
    assert is_stream(plain, "/v1/messages", "", "text/event-stream; charset=utf-8")
    assert is_stream(plain, "/v1/messages", "Text/Event-Stream", "")
    assert is_stream(read(b'{"stream":true}', "/"), "/v1/messages", "", "")
    assert not is_stream(read(b'{"stream":"true"}', "/"), "/v1/messages", "", "")
    assert is_stream(plain, "/v1beta/models/g:streamGenerateContent", "", "application/json")
