"""Chat streams as servers send them that are compatible with OpenAI's.

| server  | what is different                                                              |
|---------|--------------------------------------------------------------------------------|
| vllm    | fields of its own; `reasoning_content`; usage on every chunk, if asked for     |
| ollama  | no null usage; a role on every chunk                                           |
| litellm | no null usage; the usage chunk has a choice that says nothing                  |
| groq    | usage also in `x_groq`, on the last chunk with a choice                        |
| mistral | usage on the last chunk with a choice, unasked; `stream_options` is an error   |
| router  | comments while the model thinks, CRLF                                          |
"""

from typing import Any

from tests.upstreams import openai_format
from tests.upstreams.asked import THOUGHTS, WORD, Asked, Source, sse


def chat_events(asked: Asked) -> Source:
    """Return a chat stream in the server's own way."""
    return _SERVERS[asked.server](asked) if asked.server else openai_format.chat_events(asked)


def _usage(asked: Asked, completion: int) -> dict[str, Any]:
    return {"prompt_tokens": asked.prompt, "completion_tokens": completion,
            "total_tokens": asked.prompt + completion}  # fmt: skip


def _told(asked: Asked, option: str = "include_usage") -> bool:
    return (asked.data.get("stream_options") or {}).get(option) is True


def _chunk(asked: Asked, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1,
            "model": asked.data.get("model"), "choices": [choice]}  # fmt: skip


_DONE = (b"data: [DONE]\n\n", 0)


def _vllm(asked: Asked) -> Source:
    events: Source = [(sse(_chunk(asked, {"role": "assistant", "content": ""})), 0)]
    made = 0
    continuous = _told(asked) and _told(asked, "continuous_usage_stats")
    for field, text in [
        *(("reasoning_content", text) for text in THOUGHTS),
        *[("content", WORD)] * asked.count,
    ]:
        made += 1
        chunk = _chunk(asked, {field: text})
        chunk["choices"][0] |= {"logprobs": None, "token_ids": None}
        events.append((sse(chunk | ({"usage": _usage(asked, made)} if continuous else {})), 1))
    events.append((sse(_chunk(asked, {"content": ""}, "stop")), 0))
    if _told(asked):
        last = {**_chunk(asked, {}), "choices": [], "usage": _usage(asked, made)}
        events.append((sse(last), 0))
    return [*events, _DONE]


def _ollama(asked: Asked) -> Source:
    base = {"system_fingerprint": "fp_ollama"}
    word = {"role": "assistant", "content": WORD}
    events = [(sse(_chunk(asked, word) | base), 1)] * asked.count
    events.append((sse(_chunk(asked, {"role": "assistant", "content": ""}, "stop") | base), 0))
    if _told(asked):
        last = {**_chunk(asked, {}), **base, "choices": [], "usage": _usage(asked, asked.count)}
        events.append((sse(last), 0))
    return [*events, _DONE]


def _litellm(asked: Asked) -> Source:
    events = [(sse(_chunk(asked, {"content": WORD})), 1)] * asked.count
    events.append((sse(_chunk(asked, {}, "stop")), 0))
    if _told(asked):
        last = _chunk(asked, {}) | {"usage": _usage(asked, asked.count)}
        events.append((sse(last), 0))
    return [*events, _DONE]


def _groq(asked: Asked) -> Source:
    events = [(sse(_chunk(asked, {"content": WORD})), 1)] * asked.count
    used = _usage(asked, asked.count)
    last = _chunk(asked, {}, "stop") | {"x_groq": {"id": "req_1", "usage": used}}
    events.append((sse(last), 0))
    if _told(asked):
        events.append((sse({**_chunk(asked, {}), "choices": [], "usage": used}), 0))
    return [*events, _DONE]


def _mistral(asked: Asked) -> Source:
    if "stream_options" in asked.data:
        return [(sse({"error": {"message": "extra fields not permitted"}}), 0), _DONE]
    events = [(sse(_chunk(asked, {"content": WORD})), 1)] * asked.count
    last = _chunk(asked, {"content": ""}, "stop") | {"usage": _usage(asked, asked.count)}
    return [*events, (sse(last), 0), _DONE]


def _router(asked: Asked) -> Source:
    events = [(b": PROCESSING\r\n\r\n", 0), *_ollama(asked)]
    return [(event.replace(b"\n\n", b"\r\n\r\n"), tokens) for event, tokens in events]


_SERVERS = {"vllm": _vllm, "ollama": _ollama, "litellm": _litellm, "groq": _groq,
            "mistral": _mistral, "router": _router}  # fmt: skip
