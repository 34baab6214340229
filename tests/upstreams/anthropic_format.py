"""Anthropic's Messages API."""

import json
from typing import Any

from tests.upstreams.asked import ARGUMENTS, THOUGHTS, WORD, Asked, Source, sse

_SIGNATURE = "c2lnbmVk"


def _thinks(asked: Asked) -> bool:
    return (asked.data.get("thinking") or {}).get("type") == "enabled"


def _completion(asked: Asked) -> int:
    visible = len(ARGUMENTS) * len(asked.tools) if asked.tools else asked.count
    return visible + (len(THOUGHTS) if _thinks(asked) else 0)


def _usage(asked: Asked, completion: int) -> dict[str, Any]:
    # What was read from the cache, and what was written to it, is not in `input_tokens`.
    written = min(1, asked.cached)
    return {
        "input_tokens": asked.prompt - asked.cached, "output_tokens": completion,
        "cache_read_input_tokens": asked.cached - written, "cache_creation_input_tokens": written,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard",
    }  # fmt: skip


def _blocks(asked: Asked) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if _thinks(asked):
        thoughts = "".join(THOUGHTS)
        blocks.append({"type": "thinking", "thinking": thoughts, "signature": _SIGNATURE})
    blocks += [
        {"type": "tool_use", "id": f"toolu_{n}", "name": name,
         "input": json.loads("".join(ARGUMENTS))}
        for n, name in enumerate(asked.tools)
    ]  # fmt: skip
    return blocks if asked.tools else [*blocks, {"type": "text", "text": WORD * asked.count}]


def _message(asked: Asked, **fields: object) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant",
            "model": asked.data.get("model"), "content": [], "stop_reason": None,
            "stop_sequence": None, **fields}  # fmt: skip


def message(asked: Asked) -> tuple[dict[str, Any], int]:
    """Return a whole message and its bill."""
    completion = _completion(asked)
    answer = _message(
        asked,
        content=_blocks(asked),
        stop_reason="tool_use" if asked.tools else "end_turn",
        usage=_usage(asked, completion),
    )
    return answer, asked.prompt + completion


def message_events(asked: Asked) -> Source:
    """Return a message's stream, with a ping as soon as it has begun."""
    events: Source = []

    def say(kind: str, tokens: int = 0, **fields: object) -> None:
        events.append((sse({"type": kind, **fields}, kind), tokens))

    def delta(index: int, tokens: int, kind: str, **fields: object) -> None:
        say("content_block_delta", tokens, index=index, delta={"type": kind, **fields})

    usage = {} if asked.bare else {"usage": _usage(asked, 0)}
    say("message_start", message=_message(asked, **usage))
    for n, block in enumerate(_blocks(asked)):
        empty = {name: value for name, value in block.items() if name != "signature"}
        match block["type"]:
            case "thinking":
                say("content_block_start", index=n, content_block={**empty, "thinking": ""})
                for text in THOUGHTS:
                    delta(n, 1, "thinking_delta", thinking=text)
                delta(n, 0, "signature_delta", signature=_SIGNATURE)
            case "tool_use":
                say("content_block_start", index=n, content_block={**empty, "input": {}})
                delta(n, 0, "input_json_delta", partial_json="")
                for text in ARGUMENTS:
                    delta(n, 1, "input_json_delta", partial_json=text)
            case _:
                say("content_block_start", index=n, content_block={**empty, "text": ""})
                for _ in range(asked.count):
                    delta(n, 1, "text_delta", text=WORD)
        say("content_block_stop", index=n)
        if not n:
            say("ping")
    reason = "tool_use" if asked.tools else "end_turn"
    usage = {} if asked.bare else {"usage": {"output_tokens": _completion(asked)}}
    say("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, **usage)
    say("message_stop")
    return events


def counted(asked: Asked) -> tuple[dict[str, Any], int]:
    """Return the answer of `count_tokens`, which costs nothing."""
    return {"input_tokens": asked.prompt}, 0
