"""The calls that an application makes: every format, plain and streamed, text, tools, pictures."""

from typing import Any

from tests.sdks.clients import Call

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # noqa: E501 - one picture
_URL = f"data:image/png;base64,{PIXEL}"
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
_NAMES = ("weather", "population")
_SAID = "Grüß dich, 世界 \u2028 \U0001f600"

_CHAT: dict[str, dict[str, Any]] = {
    "text": {"messages": [{"role": "system", "content": "Be brief."},
                          {"role": "user", "content": _SAID}],
             "reasoning_effort": "low", "seed": 2**53 + 1},
    "tools": {"messages": [{"role": "user", "content": "hi"}], "tool_choice": "auto",
              "tools": [{"type": "function", "function": {"name": name, "parameters": _SCHEMA}}
                        for name in _NAMES]},
    "image": {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": _URL, "detail": "low"}}]}]},
    "choices": {"messages": [{"role": "user", "content": "hi"}], "n": 2, "logprobs": True},
}  # fmt: skip

_RESPONSES: dict[str, dict[str, Any]] = {
    "text": {"input": _SAID, "instructions": "Be brief.",
             "reasoning": {"effort": "low", "summary": "auto"}},
    "tools": {"input": [{"role": "user", "content": "hi"}],
              "tools": [{"type": "function", "name": name, "parameters": _SCHEMA, "strict": True}
                        for name in _NAMES]},
    "image": {"input": [{"role": "user", "content": [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": _URL, "detail": "auto"}]}]},
}  # fmt: skip

_MESSAGES: dict[str, dict[str, Any]] = {
    "text": {"messages": [{"role": "user", "content": _SAID}],
             "system": [{"type": "text", "text": "Be brief.",
                         "cache_control": {"type": "ephemeral"}}]},
    "tools": {"messages": [{"role": "user", "content": "hi"}],
              "tools": [{"name": name, "input_schema": _SCHEMA} for name in _NAMES]},
    "image": {"messages": [{"role": "user", "content": [
        {"type": "image",
         "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        {"type": "text", "text": "What is it?"}]}]},
    "thinking": {"messages": [{"role": "user", "content": "hi"}],
                 "thinking": {"type": "enabled", "budget_tokens": 1024}},
}  # fmt: skip

_CONTENT: dict[str, dict[str, Any]] = {
    "text": {"contents": _SAID, "config": {"system_instruction": "Be brief.",
                                           "max_output_tokens": 300}},
    "tools": {"contents": "hi", "config": {"tools": [{"function_declarations": [
        {"name": name, "parameters_json_schema": _SCHEMA} for name in _NAMES]}]}},
    "image": {"contents": [{"role": "user", "parts": [
        {"text": "What is it?"},
        {"inline_data": {"mime_type": "image/png", "data": PIXEL}}]}],
              "config": {"response_modalities": ["TEXT", "IMAGE"]}},
    "thinking": {"contents": "hi", "config": {"thinking_config": {"include_thoughts": True}}},
}  # fmt: skip

_CACHED = {"X-Cached": "3"}
_MODEL = {"model": "m-1"}
_COMPLETION = {**_MODEL, "prompt": "Once upon a time"}


def _all() -> dict[str, Call]:
    found: dict[str, Call] = {}
    for name, given in _CHAT.items():
        asked = {**_MODEL, **given}
        found[f"chat-{name}"] = Call("openai", "chat.completions.create", asked, _CACHED)
    for name, given in _RESPONSES.items():
        found[f"responses-{name}"] = Call(
            "openai", "responses.create", {**_MODEL, **given}, _CACHED
        )
    found["completions"] = Call("openai", "completions.create", _COMPLETION)
    found["azure"] = Call("azure", "chat.completions.create", {**_MODEL, **_CHAT["text"]})
    for name, given in _MESSAGES.items():
        asked = {**_MODEL, "max_tokens": 300, **given}
        found[f"messages-{name}"] = Call("anthropic", "messages.create", asked, _CACHED)
    for name, call in list(found.items()):
        asked = {**call.arguments, "stream": True}
        found[f"{name}-streamed"] = Call(call.sdk, call.method, asked, call.headers)
    asked = {**found["chat-text-streamed"].arguments, "stream_options": {"include_usage": True}}
    found["chat-usage-streamed"] = Call("openai", "chat.completions.create", asked)
    for name, given in _CONTENT.items():
        asked = {**_MODEL, **given}
        found[f"content-{name}"] = Call("gemini", "models.generate_content", asked, _CACHED)
        found[f"content-{name}-streamed"] = Call(
            "gemini", "models.generate_content_stream", asked, _CACHED
        )
    texts = ["a", "b"]
    found["embeddings"] = Call("openai", "embeddings.create", {**_MODEL, "input": texts})
    found["embeddings-numbers"] = Call(
        "openai", "embeddings.create", {**_MODEL, "input": "a", "encoding_format": "float"}
    )
    found["content-embeddings"] = Call("gemini", "models.embed_content",
                                       {**_MODEL, "contents": texts})  # fmt: skip
    found["messages-count"] = Call(
        "anthropic", "messages.count_tokens", {**_MODEL, **_MESSAGES["image"]}
    )
    found["content-count"] = Call("gemini", "models.count_tokens", {**_MODEL, "contents": "hi"})
    return found


CALLS = _all()
