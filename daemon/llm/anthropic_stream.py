"""Anthropic Messages streams (§11.1, §11.3).

Shape after docs.anthropic.com/en/docs/build-with-claude/streaming. Input usage comes with
`message_start`; `message_delta` is cumulative and may come several times; some gateways say 0 first
and the truth later. So every count keeps its largest value.
"""

from daemon.llm.stream_format import NOTHING, Delta, parse, sse, text_of
from daemon.llm.usage import from_anthropic
from protocol.bundle import Streaming
from protocol.usage import Usage, whole_tokens


class AnthropicReader:
    """Reads one stream."""

    __slots__ = ("_counts", "_open", "done", "final", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.final = False
        self.done = False
        self._counts: dict[str, object] = {}
        self._open: list[int] = []  # content blocks that have started and not stopped

    def read(self, data: bytes) -> Delta:
        """Read one event; its type stands in the payload, too."""
        event = parse(data)
        if event is None:
            return NOTHING
        match event.get("type"):
            case "content_block_delta":
                delta = event.get("delta")
                return Delta(_delta_text(delta), alike=True) if isinstance(delta, dict) else NOTHING
            case "content_block_start" | "content_block_stop" as kind:
                self._block(kind, event.get("index"))
            case "message_start":
                message = event.get("message")
                self._take(message.get("usage") if isinstance(message, dict) else None)
            case "message_delta":
                self._take(event.get("usage"))
                delta = event.get("delta")
                if isinstance(delta, dict) and isinstance(delta.get("stop_reason"), str):
                    self.final = self.usage is not None
            case "message_stop":
                self.done = True
        return NOTHING

    def close(self, prompt: int, completion: int, how: Streaming) -> bytes:  # noqa: ARG002 - the reader protocol's; this format reports output alone
        """Stop the open blocks, then the message."""
        delta: dict[str, object] = {
            "type": "message_delta",
            "delta": {"stop_reason": "max_tokens", "stop_sequence": None},
        }
        if how.include_partial_usage:
            delta["usage"] = {"output_tokens": completion}
        events: list[dict[str, object]] = [
            {"type": "content_block_stop", "index": index} for index in self._open
        ]
        events += [delta, {"type": "message_stop"}]
        return b"".join(sse(event, str(event["type"])) for event in events)

    def _block(self, kind: str, index: object) -> None:
        if type(index) is not int:
            return
        if index in self._open:
            self._open.remove(index)
        if kind == "content_block_start":
            self._open.append(index)

    def _take(self, usage: object) -> None:
        if isinstance(usage, dict):
            _keep_largest(self._counts, usage)
            self.usage = from_anthropic(self._counts)


def _keep_largest(kept: dict[str, object], new: dict[str, object]) -> None:
    for name, value in new.items():
        if isinstance(value, dict):
            nested = kept.setdefault(name, {})
            if isinstance(nested, dict):
                for part, count in value.items():
                    _keep(nested, part, count)
        else:
            _keep(kept, name, value)


def _keep(kept: dict[str, object], name: str, value: object) -> None:
    count = whole_tokens(value)
    before = whole_tokens(kept.get(name))
    if count is not None and (before is None or count > before):
        kept[name] = count


def _delta_text(delta: dict[str, object]) -> str:
    return text_of(delta.get("text"), delta.get("thinking"), delta.get("partial_json"))
