import json

from hypothesis import given
from hypothesis import strategies as st

from daemon.llm import anthropic, gemini, openai
from daemon.llm.prompt import Prompt, media_units
from daemon.llm.request import parse_json

FIELDS = st.sampled_from(
    [
        "messages", "content", "text", "type", "input", "prompt", "contents", "parts", "system",
        "tools", "tool_calls", "function", "arguments", "inlineData", "data", "source", "file",
        "image_url", "input_audio", "requests", "systemInstruction", "mimeType", "functionCall",
    ]
)  # fmt: skip
TYPES = st.sampled_from(
    ["text", "image", "document", "tool_use", "input_audio", "file", "image_url"]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TYPES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner, max_size=5),
    max_leaves=30,
)


@given(st.dictionaries(FIELDS, anything))
def test_any_body_is_tolerated(body: dict[str, object]) -> None:
    for reader in (openai.prompt, anthropic.prompt, gemini.prompt):
        found = reader(body)
        assert found.media_tokens >= 0
        assert all(isinstance(text, str) and text for text in found.texts)
    assert openai.content_bytes(body.get("messages")) >= 0


def test_openai_chat() -> None:
    found = openai.prompt(
        {
            "messages": [
                {"role": "system", "content": "rules"},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "look"},
                        {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
                        {"type": "image_url", "image_url": {"url": "u"}},
                        {"type": "input_audio", "input_audio": {"data": "A" * 32_000}},
                    ],
                },
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "content": "result"},
            ],
            "tools": [{"type": "function", "function": {"name": "f"}}],
        }
    )
    tool = '[{"type":"function","function":{"name":"f"}}]'
    assert sorted(found.texts) == sorted(["rules", "look", "f", "{}", "result", tool])
    assert found.media_tokens == 85 + 765 + 2 * 10


def test_openai_responses_completions_embeddings() -> None:
    found = openai.prompt(
        {
            "instructions": "be brief",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                {"type": "function_call", "name": "f", "arguments": "{1}"},
                {"type": "function_call_output", "output": "42"},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "why"}]},
            ],
        }
    )
    assert sorted(found.texts) == sorted(["be brief", "hi", "f", "{1}", "42", "why"])
    assert openai.prompt({"input": ["a", "b"]}).texts == ["b", "a"]
    assert openai.prompt({"prompt": "p", "suffix": "s"}).texts == ["s", "p"]
    assert openai.prompt({"prompt": [[1, 2], [3]]}).media_tokens == 3


def test_anthropic_messages() -> None:
    found = anthropic.prompt(
        {
            "system": [{"type": "text", "text": "rules"}],
            "tools": [{"name": "f"}],
            "messages": [
                {"role": "user", "content": "hi"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm"},
                        {"type": "tool_use", "name": "f", "input": {"a": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "content": [
                                {"type": "text", "text": "42"},
                                {"type": "image", "source": {"data": "x"}},
                            ],
                        },
                        {"type": "document", "source": {"type": "text", "data": "doc"}},
                        {"type": "document", "source": {"type": "url", "url": "u"}},
                    ],
                },
            ],
        }
    )
    expected = ["rules", '[{"name":"f"}]', "hi", "hm", "f", '{"a":1}', "42", "doc"]
    assert sorted(found.texts) == sorted(expected)
    assert found.media_tokens == 1600 + 10 * 3000


def test_gemini_contents() -> None:
    found = gemini.prompt(
        {
            "system_instruction": {"parts": [{"text": "rules"}]},
            "contents": [
                {
                    "parts": [
                        {"text": "hi"},
                        {"inlineData": {"mimeType": "image/png", "data": "x"}},
                        {"inline_data": {"mime_type": "audio/mp3", "data": "A" * 32_000}},
                        {"fileData": {"mimeType": "video/mp4", "fileUri": "u"}},
                        {"functionResponse": {"name": "f"}},
                    ]
                }
            ],
            "tools": [{"functionDeclarations": []}],
        }
    )
    expected = ["rules", "hi", '{"name":"f"}', '[{"functionDeclarations":[]}]']
    assert sorted(found.texts) == sorted(expected)
    assert found.media_tokens == 258 + 2 * 32 + 60 * 263
    batch: dict[str, object] = {"requests": [{"content": {"parts": [{"text": "a"}]}}]}
    assert gemini.prompt(batch).texts == ["a"]


def test_values_that_the_fast_encoder_refuses_still_count() -> None:
    deep: object = "leaf"
    for _ in range(2000):
        deep = [deep]
    found = Prompt()
    found.add_json(deep)
    found.add_json(parse_json(rb'{"k":"\ud800"}'))
    assert found.texts == ["leaf", "\ud800 k"]


def test_media_lengths() -> None:
    assert media_units(None, 100, 60) == 60
    assert media_units("", 100, 60) == 1
    assert media_units("A" * 400, 100, 60) == 3


def test_bytes_are_utf8() -> None:
    messages = json.loads(
        '[{"content":"é€😀"},{"content":["x",{"text":"\\ud800"}]},7,{"content":9}]'
    )
    assert openai.content_bytes(messages) == 2 + 3 + 4 + 1 + 3
