"""Streams of OpenAI's Responses API (§11.1, §11.3).

Shape after platform.openai.com/docs/api-reference/responses-streaming: `response.*` events, each
with a sequence number; text in `….delta`; the end is `response.completed`, `.incomplete` or
`.failed` with the whole response, and there is no `[DONE]`. A cut ends the same way: what is open
is done, and the response is incomplete for the reason `max_output_tokens`.
"""

from daemon.llm.responses_output import ResponseOutput
from daemon.llm.stream_format import NOTHING, Delta, sse, text_of
from daemon.llm.usage import from_openai
from protocol.bundle import Streaming
from protocol.usage import Usage

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class ResponsesReader:
    """Reads one stream."""

    __slots__ = ("_output", "_response", "_sequence", "done", "final", "usage")

    usage: Usage | None

    def __init__(self, *, closable: bool = False) -> None:
        self.usage = None
        self._output = ResponseOutput() if closable else None
        self.final = False
        self.done = False
        self._response: dict[str, object] = {}
        self._sequence = -1

    def read_event(self, kind: str, event: dict[str, object]) -> Delta:
        """Read one `response.*` event."""
        number = event.get("sequence_number")
        if isinstance(number, int):
            self._sequence = number
        if self._output is not None:
            self._output.take(kind, event)
        response = event.get("response")
        if isinstance(response, dict):
            self._response = response
            usage = from_openai(response.get("usage"))
            if usage is not None:
                self.usage = usage
                self.final = kind in _ENDS
        if kind in _ENDS:
            self.done = True
        # Audio deltas are base64 sound, not text; their transcripts are.
        if kind.endswith(".delta") and not kind.endswith("audio.delta"):
            return Delta(text_of(event.get("delta")))
        return NOTHING

    def close(self, prompt: int, completion: int, how: Streaming) -> bytes:
        """Return the events that end the stream as incomplete."""
        out = b""
        items: list[dict[str, object]] = []
        if self._output is not None:
            for event in self._output.finish():
                event["sequence_number"] = self._next()
                out += sse(event, str(event["type"]))
            items = self._output.items
        if how.on_limit_exceeded == "error_chunk":
            error = {
                "type": "error",
                "code": "completion_tokens_exceeded",
                "message": "max completion tokens exceeded",
                "param": None,
                "sequence_number": self._next(),
            }
            out += sse(error, "error")
        response = {
            **self._response,
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            **({"output": items} if items else {}),
        }
        response.pop("usage", None)
        if how.include_partial_usage:
            response["usage"] = {
                "input_tokens": prompt,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": completion,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": prompt + completion,
            }
        end = {
            "type": "response.incomplete",
            "sequence_number": self._next(),
            "response": response,
        }
        return out + sse(end, "response.incomplete")

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence
