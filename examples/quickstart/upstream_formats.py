"""What the offline provider is asked and answers, in three vendors' formats. Pure.

Each format reads a request's body into a `Task`, and renders the answer whole or as the events of a
stream, each with the number of tokens in it. A token is a word.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

SENTENCE = "the sea keeps its own accounts and every wave it lends comes back"
WORDS = 40
MOST_WORDS = 1_000_000
CREATED = 1_770_000_000


class NotAnswerableError(Exception):
    """A request that gets an error: its status and what is wrong."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a request wants: its model, the prompt's tokens, and the answer's words."""

    model: str
    prompt: int
    words: tuple[str, ...]
    complete: bool
    stream: bool
    usage: bool = True


Whole = Callable[[Task], dict[str, Any]]
Events = Callable[[Task], Iterator[tuple[bytes, int]]]


def texts(value: object) -> Iterator[str]:
    """Yield every text of a `content`, `parts` or `system` value: a string, or a list of parts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts(value.get("text", value.get("content", value.get("parts"))))
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)


def assigned(
    model: object, prompt: list[str], maximum: object, *, stream: bool, usage: bool
) -> Task:
    """Return what to answer to the texts of a prompt."""
    asked = re.search(r"\bin (\d{1,9}) words\b", prompt[-1] if prompt else "")
    wanted = min(max(1, int(asked[1])), MOST_WORDS) if asked else WORDS
    cap = maximum if isinstance(maximum, int) and maximum > 0 else wanted
    words = islice(cycle(SENTENCE.split()), min(wanted, cap))
    return Task(
        str(model),
        sum(len(text.split()) for text in prompt),
        tuple(word if at == 0 else f" {word}" for at, word in enumerate(words)),
        cap >= wanted,
        stream,
        usage,
    )


def openai_task(body: dict[str, Any]) -> Task:
    """Read a chat completion (platform.openai.com/docs/api-reference/chat)."""
    options = body.get("stream_options") or {}
    return assigned(
        body.get("model"),
        list(texts(body.get("messages"))),
        body.get("max_completion_tokens") or body.get("max_tokens"),
        stream=body.get("stream") is True,
        usage=options.get("include_usage") is True,
    )


def openai_answer(task: Task) -> dict[str, Any]:
    """Return a whole chat completion."""
    message = {"role": "assistant", "content": "".join(task.words)}
    choice = {"index": 0, "message": message, "finish_reason": openai_finish(task)}
    return {
        **openai_frame(task, "chat.completion"),
        "choices": [choice],
        "usage": openai_usage(task),
    }


def openai_events(task: Task) -> Iterator[tuple[bytes, int]]:
    """Yield the events of a streamed chat completion, with the tokens in each."""
    frame = openai_frame(task, "chat.completion.chunk")
    for word in task.words:
        choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
        yield event({**frame, "choices": [choice]}), 1
    last = {"index": 0, "delta": {}, "finish_reason": openai_finish(task)}
    yield event({**frame, "choices": [last]}), 0
    if task.usage:
        yield event({**frame, "choices": [], "usage": openai_usage(task)}), 0
    yield b"data: [DONE]\n\n", 0


def openai_frame(task: Task, kind: str) -> dict[str, Any]:
    """Return what every object of a chat completion carries."""
    return {"id": "chatcmpl-offline", "object": kind, "created": CREATED, "model": task.model}


def openai_finish(task: Task) -> str:
    """Return why the answer ends."""
    return "stop" if task.complete else "length"


def openai_usage(task: Task) -> dict[str, int]:
    """Return the bill of one chat completion."""
    completion = len(task.words)
    return {
        "prompt_tokens": task.prompt,
        "completion_tokens": completion,
        "total_tokens": task.prompt + completion,
    }


def anthropic_task(body: dict[str, Any]) -> Task:
    """Read a message request (docs.anthropic.com/en/api/messages)."""
    return assigned(
        body.get("model"),
        [*texts(body.get("system")), *texts(body.get("messages"))],
        body.get("max_tokens"),
        stream=body.get("stream") is True,
        usage=True,
    )


def anthropic_answer(task: Task) -> dict[str, Any]:
    """Return a whole message."""
    return {
        "id": "msg_offline",
        "type": "message",
        "role": "assistant",
        "model": task.model,
        "content": [{"type": "text", "text": "".join(task.words)}],
        "stop_reason": anthropic_stop(task),
        "stop_sequence": None,
        "usage": {"input_tokens": task.prompt, "output_tokens": len(task.words)},
    }


def anthropic_events(task: Task) -> Iterator[tuple[bytes, int]]:
    """Yield the events of a streamed message, with the tokens in each."""
    usage = {"input_tokens": task.prompt, "output_tokens": 0}
    message = {**anthropic_answer(task), "content": [], "stop_reason": None, "usage": usage}
    yield event({"type": "message_start", "message": message}), 0
    block = {"type": "text", "text": ""}
    yield event({"type": "content_block_start", "index": 0, "content_block": block}), 0
    for word in task.words:
        delta = {"type": "text_delta", "text": word}
        yield event({"type": "content_block_delta", "index": 0, "delta": delta}), 1
    yield event({"type": "content_block_stop", "index": 0}), 0
    end = {"stop_reason": anthropic_stop(task), "stop_sequence": None}
    counted = {"output_tokens": len(task.words)}
    yield event({"type": "message_delta", "delta": end, "usage": counted}), 0
    yield event({"type": "message_stop"}), 0


def anthropic_stop(task: Task) -> str:
    """Return why the message ends."""
    return "end_turn" if task.complete else "max_tokens"


def gemini_task(body: dict[str, Any], model: str, *, stream: bool) -> Task:
    """Read a generateContent request (ai.google.dev/api/generate-content)."""
    limits = body.get("generationConfig") or {}
    prompt = [*texts(body.get("systemInstruction")), *texts(body.get("contents"))]
    return assigned(model, prompt, limits.get("maxOutputTokens"), stream=stream, usage=True)


def gemini_answer(task: Task, words: int | None = None) -> dict[str, Any]:
    """Return the whole response, or the chunk of a stream that holds its nth word."""
    count = len(task.words) if words is None else words
    text = "".join(task.words) if words is None else task.words[words - 1]
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}}
    if count == len(task.words):
        candidate["finishReason"] = "STOP" if task.complete else "MAX_TOKENS"
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": task.prompt,
            "candidatesTokenCount": count,
            "totalTokenCount": task.prompt + count,
        },
        "modelVersion": task.model,
    }


def gemini_events(task: Task) -> Iterator[tuple[bytes, int]]:
    """Yield the chunks of a streamed response, one word each."""
    for count in range(1, len(task.words) + 1):
        yield b"data: " + json.dumps(gemini_answer(task, count)).encode() + b"\r\n\r\n", 1


def event(value: dict[str, Any]) -> bytes:
    """Return one server-sent event, named by its type if it has one."""
    name = f"event: {value['type']}\n" if "type" in value else ""
    return f"{name}data: {json.dumps(value)}\n\n".encode()


def read_task(target: str, body: bytes) -> tuple[Task, Whole, Events]:
    """Return a request's task and how to answer it, at once and streamed.

    Raises:
        NotAnswerableError: no such endpoint, or no such JSON.
    """
    path, _, query = target.partition("?")
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise NotAnswerableError(400, "the body must be a JSON object")
    if path.endswith("/chat/completions"):
        return openai_task(document), openai_answer, openai_events
    if path.endswith("/messages"):
        return anthropic_task(document), anthropic_answer, anthropic_events
    model, _, verb = path.rpartition("/")[2].partition(":")
    if verb == "generateContent" or (verb == "streamGenerateContent" and "alt=sse" in query):
        stream = verb == "streamGenerateContent"
        return gemini_task(document, model, stream=stream), gemini_answer, gemini_events
    raise NotAnswerableError(404, f"nothing is served at {path}")
