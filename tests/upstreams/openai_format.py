"""OpenAI's chat, completions and embeddings, also as Azure and compatible servers send them."""

import base64
import struct
from typing import Any

from tests.upstreams.asked import ARGUMENTS, WORD, Asked, Source, sse

_EMBEDDING = (0.25, -1.5, 3.0)
_REASONING = 4
"""Tokens of hidden reasoning, which are billed and not seen."""


def _reasoning(asked: Asked) -> int:
    return _REASONING if asked.data.get("reasoning_effort") else 0


def _completion(asked: Asked) -> int:
    visible = len(ARGUMENTS) * len(asked.tools) if asked.tools else asked.count
    return visible * (asked.data.get("n") or 1) + _reasoning(asked)


def usage(asked: Asked) -> dict[str, Any]:
    """Return the usage of a call."""
    completion = _completion(asked)
    return {
        "prompt_tokens": asked.prompt, "completion_tokens": completion,
        "total_tokens": asked.prompt + completion,
        "prompt_tokens_details": {"cached_tokens": asked.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": _reasoning(asked), "audio_tokens": 0},
    }  # fmt: skip


def _base(asked: Asked, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": asked.data.get("model"),
            "system_fingerprint": "fp_1", "service_tier": "default"}  # fmt: skip


def _logprob(text: str) -> dict[str, Any]:
    return {"token": text, "logprob": -0.25, "bytes": list(text.encode()), "top_logprobs": []}


def chat(asked: Asked) -> tuple[dict[str, Any], int]:
    """Return a whole chat completion and its bill."""
    message: dict[str, Any] = {"role": "assistant", "content": WORD * asked.count, "refusal": None}
    logprobs = None
    if asked.data.get("logprobs"):
        logprobs = {"content": [_logprob(WORD)] * asked.count, "refusal": None}
    finish = "stop"
    if asked.tools:
        finish = "tool_calls"
        message["content"] = None
        message["tool_calls"] = [
            {"id": f"call_{n}", "type": "function",
             "function": {"name": name, "arguments": "".join(ARGUMENTS)}}
            for n, name in enumerate(asked.tools)
        ]  # fmt: skip
    choices = [
        {"index": n, "message": message, "logprobs": logprobs, "finish_reason": finish}
        for n in range(asked.data.get("n") or 1)
    ]
    answer = {**_base(asked, "chat.completion"), "choices": choices, "usage": usage(asked)}
    return answer, asked.prompt + _completion(asked)


def chat_events(asked: Asked) -> Source:
    """Return a chat stream; usage as asked: null on every chunk, then an extra one."""
    options = asked.data.get("stream_options") or {}
    told = options.get("include_usage") is True and not asked.bare
    base = _base(asked, "chat.completion.chunk") | ({"usage": None} if told else {})

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        text = delta.get("content")
        logprobs = {"content": [_logprob(text)]} if asked.data.get("logprobs") and text else None
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return sse({**base, "choices": [choice]})

    events: Source = []
    if "/deployments/" in asked.path:  # Azure says first what its filter found
        found = [{"prompt_index": 0, "content_filter_results": {}}]
        events.append((sse({**base, "id": "", "choices": [], "prompt_filter_results": found}), 0))
    choices = range(asked.data.get("n") or 1)
    events += [
        (chunk(n, {"role": "assistant", "content": "", "refusal": None}), 0) for n in choices
    ]
    if asked.tools:
        for n in choices:
            events += _tool_deltas(asked, n, chunk)
    else:
        events += [(chunk(n, {"content": WORD}), 1) for _ in range(asked.count) for n in choices]
    finish = "tool_calls" if asked.tools else "stop"
    # Reasoning was before the first word, but a bill by the event has to come with some event.
    hidden = _reasoning(asked)
    events += [(chunk(n, {}, finish), 0 if n else hidden) for n in choices]
    if told:
        events.append((sse({**base, "choices": [], "usage": usage(asked)}), 0))
    return [*events, (b"data: [DONE]\n\n", 0)]


def _tool_deltas(asked: Asked, index: int, chunk: Any) -> Source:  # noqa: ANN401 - a closure of one caller
    events: Source = []
    for n, name in enumerate(asked.tools):
        first = {"index": n, "id": f"call_{n}", "type": "function",
                 "function": {"name": name, "arguments": ""}}  # fmt: skip
        events.append((chunk(index, {"tool_calls": [first]}), 0))
        for text in ARGUMENTS:
            more = {"index": n, "function": {"arguments": text}}
            events.append((chunk(index, {"tool_calls": [more]}), 1))
    return events


def completion(asked: Asked) -> tuple[dict[str, Any], int]:
    """Return a whole legacy completion and its bill."""
    choice = {"text": WORD * asked.count, "index": 0, "logprobs": None, "finish_reason": "stop"}
    answer = {**_base(asked, "text_completion"), "choices": [choice], "usage": usage(asked)}
    return answer, asked.prompt + asked.count


def completion_events(asked: Asked) -> Source:
    """Return a legacy completion's stream."""
    options = asked.data.get("stream_options") or {}
    told = options.get("include_usage") is True and not asked.bare
    base = _base(asked, "text_completion") | ({"usage": None} if told else {})

    def chunk(text: str, finish: str | None = None) -> bytes:
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
        return sse({**base, "choices": [choice]})

    events = [(chunk(WORD), 1)] * asked.count + [(chunk("", "stop"), 0)]
    if told:
        events.append((sse({**base, "choices": [], "usage": usage(asked)}), 0))
    return [*events, (b"data: [DONE]\n\n", 0)]


def embeddings(asked: Asked) -> tuple[dict[str, Any], int]:
    """Return embeddings, as numbers or in base64, and their bill."""
    vector: object = list(_EMBEDDING)
    if asked.data.get("encoding_format") == "base64":
        packed = struct.pack(f"<{len(_EMBEDDING)}f", *_EMBEDDING)
        vector = base64.b64encode(packed).decode()
    given = asked.data.get("input")
    answer = {
        "object": "list", "model": asked.data.get("model"),
        "data": [{"object": "embedding", "index": n, "embedding": vector}
                 for n in range(len(given) if isinstance(given, list) else 1)],
        "usage": {"prompt_tokens": asked.prompt, "total_tokens": asked.prompt},
    }  # fmt: skip
    return answer, asked.prompt
