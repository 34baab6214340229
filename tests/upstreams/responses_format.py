"""OpenAI's Responses API."""

import itertools
from typing import Any

from tests.upstreams.asked import ARGUMENTS, THOUGHTS, WORD, Asked, Source, sse


def _thoughts(asked: Asked) -> int:
    return len(THOUGHTS) if asked.data.get("reasoning") else 0


def _completion(asked: Asked) -> int:
    visible = len(ARGUMENTS) * len(asked.tools) if asked.tools else asked.count
    return visible + _thoughts(asked)


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(text: str | None) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant",
            "status": "in_progress" if text is None else "completed",
            "content": [] if text is None else [_text_part(text)]}  # fmt: skip


def _call(number: int, name: str, arguments: str | None) -> dict[str, Any]:
    return {"id": f"fc_{number}", "type": "function_call", "call_id": f"call_{number}",
            "name": name, "arguments": arguments or "",
            "status": "in_progress" if arguments is None else "completed"}  # fmt: skip


def _reasoning(text: str | None) -> dict[str, Any]:
    summary = [] if text is None else [{"type": "summary_text", "text": text}]
    return {"id": "rs_1", "type": "reasoning", "summary": summary}


def _output(asked: Asked) -> list[dict[str, Any]]:
    items = [_reasoning("".join(THOUGHTS))] if _thoughts(asked) else []
    if not asked.tools:
        return [*items, _message(WORD * asked.count)]
    called = enumerate(asked.tools)
    return items + [_call(n, name, "".join(ARGUMENTS)) for n, name in called]


def _response(asked: Asked, status: str) -> dict[str, Any]:
    done = status == "completed"
    completion = _completion(asked)
    used = {
        "input_tokens": asked.prompt, "output_tokens": completion,
        "total_tokens": asked.prompt + completion,
        "input_tokens_details": {"cached_tokens": asked.cached},
        "output_tokens_details": {"reasoning_tokens": _thoughts(asked)},
    }  # fmt: skip
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "status": status, "error": None,
        "incomplete_details": None, "instructions": None, "max_output_tokens": None,
        "model": asked.data.get("model"), "output": _output(asked) if done else [],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": asked.data.get("tools") or [],
        "usage": used if done else None,
    }  # fmt: skip


def response(asked: Asked) -> tuple[dict[str, Any], int]:
    """Return a whole response and its bill."""
    return _response(asked, "completed"), asked.prompt + _completion(asked)


def response_events(asked: Asked) -> Source:
    """Return a stream of `response.*` events."""
    numbers = itertools.count()
    events: Source = []

    def say(kind: str, tokens: int = 0, **fields: object) -> None:
        name = f"response.{kind}"
        event = {"type": name, "sequence_number": next(numbers), **fields}
        events.append((sse(event, name), tokens))

    begun = _response(asked, "in_progress")
    say("created", response=begun)
    say("in_progress", response=begun)
    for at, item in enumerate(_output(asked)):
        place = {"item_id": item["id"], "output_index": at}
        if item["type"] == "reasoning":
            say("output_item.added", output_index=at, item=_reasoning(None))
            place["summary_index"] = 0
            say("reasoning_summary_part.added", **place, part={"type": "summary_text", "text": ""})
            for text in THOUGHTS:
                say("reasoning_summary_text.delta", 1, **place, delta=text)
            say("reasoning_summary_text.done", **place, text="".join(THOUGHTS))
            say("reasoning_summary_part.done", **place, part=item["summary"][0])
        elif item["type"] == "function_call":
            say("output_item.added", output_index=at,
                item=_call(int(item["id"][3:]), item["name"], None))  # fmt: skip
            for text in ARGUMENTS:
                say("function_call_arguments.delta", 1, **place, delta=text)
            say("function_call_arguments.done", **place, arguments=item["arguments"],
                name=item["name"])  # fmt: skip
        else:
            say("output_item.added", output_index=at, item=_message(None))
            place["content_index"] = 0
            say("content_part.added", **place, part=_text_part(""))
            for _ in range(asked.count):
                say("output_text.delta", 1, **place, delta=WORD, logprobs=[])
            say("output_text.done", **place, text=WORD * asked.count, logprobs=[])
            say("content_part.done", **place, part=item["content"][0])
        say("output_item.done", output_index=at, item=item)
    done = _response(asked, "completed")
    if asked.bare:
        done["usage"] = None
    say("completed", response=done)
    return events
