"""Gemini streams, as server-sent events or as a JSON array (§11.1, §11.3).

Shape after ai.google.dev/api/generate-content: every chunk is a whole response with new parts, and
its `usageMetadata` is a snapshot of the counts so far. The last chunk has a `finishReason`.
"""

import orjson

from daemon.llm.prompt import objects
from daemon.llm.stream_format import NOTHING, Delta, parse, sse, text_of
from daemon.llm.usage import from_gemini
from protocol.bundle import Streaming
from protocol.usage import Usage


class GeminiReader:
    """Reads one stream; `array` for a JSON array instead of events."""

    __slots__ = ("_array", "done", "final", "usage")

    usage: Usage | None

    def __init__(self, *, array: bool = False) -> None:
        self.usage = None
        self.final = False
        self.done = False
        self._array = array

    def read(self, data: bytes) -> Delta:
        """Read one chunk."""
        event = parse(data)
        if event is None:
            return NOTHING
        texts: list[str] = []
        for candidate in objects(event.get("candidates")):
            if isinstance(candidate.get("finishReason"), str):
                self.done = True
            texts.append(_candidate_text(candidate))
        if isinstance(event.get("promptFeedback"), dict) and not texts:
            self.done = True  # a blocked prompt has no candidate to finish
        usage = from_gemini(event.get("usageMetadata"))
        if usage is not None:
            self.usage = usage
            self.final = self.done
        return Delta("".join(texts))

    def close(self, prompt: int, completion: int, how: Streaming) -> bytes:
        """Return one last chunk: an event, or an element without its separators."""
        chunk: dict[str, object] = {
            "candidates": [
                {
                    "content": {"parts": [{"text": ""}], "role": "model"},
                    "finishReason": "MAX_TOKENS",
                    "index": 0,
                }
            ]
        }
        if how.include_partial_usage:
            chunk["usageMetadata"] = {
                "promptTokenCount": prompt,
                "candidatesTokenCount": completion,
                "totalTokenCount": prompt + completion,
            }
        return orjson.dumps(chunk) if self._array else sse(chunk)


def _candidate_text(candidate: dict[str, object]) -> str:
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    return "".join(_part_text(part) for part in objects(parts))


def _part_text(part: dict[str, object]) -> str:
    call = part.get("functionCall")
    arguments = call.get("args") if isinstance(call, dict) else None
    code = part.get("executableCode")
    return text_of(
        part.get("text"),
        orjson.dumps(arguments).decode() if arguments else None,
        code.get("code") if isinstance(code, dict) else None,
    )
