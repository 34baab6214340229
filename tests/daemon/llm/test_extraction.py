import json

import pytest

from daemon.llm.extraction import extract, extract_sse
from protocol.usage import Usage


@pytest.mark.parametrize("body", [b"", b"{", b"nope"])
def test_not_json(body: bytes) -> None:
    assert extract("openai", body) == "json_parse_error"


@pytest.mark.parametrize("body", [b"{}", b"[]", b"7", b"null", b'{"usage":null}', b'{"usage":-1}'])
def test_no_usage(body: bytes) -> None:
    assert extract("openai", body) == "usage_not_found"


def test_the_bound_is_inclusive() -> None:
    body = b'{"usage":{"total_tokens":3}}'
    assert extract("openai", body, max_bytes=len(body)) == Usage(total=3)
    assert extract("openai", body, max_bytes=len(body) - 1) == "body_too_large"


def test_paths() -> None:
    body = json.dumps({"a": {"b": 12, "c": {"input_tokens": 1, "output_tokens": 2}}}).encode()
    assert extract("openai", body, ["$.a.b"]) == Usage(total=12)
    assert extract("anthropic", body, ["$.x.y", "$.a.b.z", "$.a.c"]) == Usage(1, 2, 3)
    assert extract("openai", body, ["$", "", "$.", "a.b"]) == "usage_not_found"


def test_a_gemini_array() -> None:
    body = json.dumps([{"usageMetadata": {"totalTokenCount": n}} for n in (1, 2)]).encode()
    assert extract("gemini", body) == Usage(total=2)


def test_streams() -> None:
    stream = b'data: {"x":{"total_tokens":4}}\n\ndata: {"x":{"total_tokens":5}}\r\n\r\ndata: {"x":0'
    assert extract_sse("openai", stream, ["$.x"]) == Usage(total=5)
    assert extract_sse("openai", stream) == "usage_not_found"
    failed = b'data: {"type":"response.failed","response":{"usage":{"total_tokens":6}}}\n\n'
    assert extract_sse("openai", failed) == Usage(total=6)
