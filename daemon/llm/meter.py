"""Watch a stream on its way to the client: count, cut, and know what it used (behaviour §11.3).

Bytes in, bytes out; no socket. Rules:
- Whole events pass with their exact bytes, in order, each as soon as it is complete; only what an
  upstream adds because the daemon asked for usage is taken out.
- An event's text counts `ceil(UTF-8 bytes / 4)`, or its BPE tokens. A hidden event counts, too.
- The event that crosses the cap is replaced by the close form; nothing follows it.
- A shadow cap only sets `would_truncate`.
- The unterminated tail passes at the end: it is counted and read for usage, but no longer tested.
"""

from typing import Final, Literal

from daemon.llm.anthropic_stream import AnthropicReader
from daemon.llm.cut import Cut, Gate
from daemon.llm.estimate import BYTES_PER_TOKEN
from daemon.llm.event_shape import EventShape, is_plain, learn
from daemon.llm.framing import MAX_EVENT_BYTES, Piece, Splitter
from daemon.llm.gemini_stream import GeminiReader
from daemon.llm.json_array import JsonArraySplitter
from daemon.llm.openai import byte_length
from daemon.llm.openai_stream import OpenAiReader
from daemon.llm.providers import Family
from daemon.llm.sse import SseSplitter, parse_event
from daemon.llm.stream_format import Reader
from daemon.llm.stream_usage import without_null_usage
from daemon.llm.tokens import TokenCounter
from protocol.usage import Usage

Framing = Literal["sse", "array"]

_NEVER: Final = 1 << 62
MAX_LESSONS: Final = 8
"""How often a stream's shape is learnt anew: learning costs more than reading one event."""


def quarter_bytes(text: str) -> int:
    """Return a quarter of the UTF-8 bytes of a text, rounded up."""
    return -(-byte_length(text) // BYTES_PER_TOKEN)


def framing_of(family: Family, content_type: str) -> Framing:
    """Return how a stream is framed: Gemini sends a JSON array unless asked for events."""
    if family == "gemini" and not content_type.lower().startswith("text/event-stream"):
        return "array"
    return "sse"


def reader_for(
    family: Family,
    *,
    hide_usage: bool = False,
    framing: Framing = "sse",
    closable: bool = False,
) -> Reader:
    """Return the reader of a family's streams; a `closable` one may be asked to `close`."""
    if family == "anthropic":
        return AnthropicReader()
    if family == "gemini":
        return GeminiReader(array=framing == "array")
    return OpenAiReader(hide_usage=hide_usage, closable=closable)


def _next_test(*gates: Gate | None) -> int:
    """Return the count below which no gate has anything to test."""
    return min((gate.due for gate in gates if gate is not None), default=_NEVER)


class StreamMeter:
    """Meters one stream.

    `prompt_tokens` is the estimate that holds until the stream reports better; `cut` and `shadow`
    are the caps of the enforcing and of the shadow rules; `hide_usage` keeps the usage chunk, for
    which the daemon asked, from the client. Afterwards `counted`, `truncated`, `would_truncate` and
    `usage()` tell what happened.
    """

    __slots__ = (
        "_array",
        "_between",
        "_count",
        "_cut",
        "_due",
        "_gate",
        "_lessons",
        "_limit",
        "_prompt",
        "_quarters",
        "_reader",
        "_shadow",
        "_shape",
        "_splitter",
        "counted",
        "truncated",
        "would_truncate",
    )

    def __init__(  # noqa: PLR0913 - one value per fact of the exchange, all but one by keyword
        self,
        family: Family,
        *,
        prompt_tokens: int = 0,
        cut: Cut | None = None,
        shadow: Cut | None = None,
        hide_usage: bool = False,
        framing: Framing = "sse",
        count: TokenCounter = quarter_bytes,
        max_event_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        # What every chunk needs lies together.
        self._shape: EventShape | None = None
        self._between = True
        self._quarters = count is quarter_bytes
        self.counted = 0
        self._gate = Gate(cut) if cut else None
        self._shadow = Gate(shadow) if shadow else None
        self._due = _next_test(self._gate, self._shadow)
        self._count = count
        self._lessons = MAX_LESSONS
        self._limit = max_event_bytes
        self._reader = reader_for(
            family, hide_usage=hide_usage, framing=framing, closable=cut is not None
        )
        self._splitter: Splitter = (
            JsonArraySplitter(max_event_bytes)
            if framing == "array"
            else SseSplitter(max_event_bytes)
        )
        self._array = framing == "array"
        self._prompt = prompt_tokens
        self._cut = cut
        self.truncated = False
        self.would_truncate = False

    @property
    def done(self) -> bool:
        """Whether the end marker has passed or the stream is cut."""
        return self.truncated or self._reader.done

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes of the upstream; return those for the client.

        When `truncated` is set afterwards, the upstream must be closed.
        """
        if self.truncated:
            return b""
        shape = self._shape
        if shape is None or not self._between:
            return self._read(chunk)
        out: list[bytes] = []
        at, size = 0, len(chunk)
        while at < size:
            known = shape.read(chunk, at)
            if known is None:
                out.append(self._read(chunk[at:]))
                break
            start = at
            raw, passed, at = known
            # Its bytes are the text's: decoding and two calls would cost 0.5 µs.
            self.counted += (
                (len(raw) + BYTES_PER_TOKEN - 1) // BYTES_PER_TOKEN
                if self._quarters
                else self._count(raw.decode())
            )
            if self.counted >= self._due and raw and self._crosses():
                self._text_of(chunk[start:at])  # a close repeats what its last event said
                out.append(self._close(b"", b""))
                break
            out.append(passed)
        return out[0] if len(out) == 1 else b"".join(out)

    def feed_chunk(self, framed: bytes, start: int) -> bytes | None:
        """Take a chunk of HTTP whose content begins at `start`; return the chunk that passes.

        None: `feed` has to look at its content.
        """
        shape = self._shape
        if shape is None or not self._between:
            return None
        passed = shape.chunk(framed, start)
        if passed is None:
            return None
        at, end = shape.text_at, shape.text_end
        counted = self.counted + (
            (end - at + BYTES_PER_TOKEN - 1) // BYTES_PER_TOKEN
            if self._quarters
            else self._count(framed[at:end].decode())
        )
        if counted >= self._due:
            return None
        self.counted = counted
        return passed

    def end(self) -> bytes:
        """Take the upstream's end of data; return the last bytes for the client."""
        if self.truncated:
            return b""
        self._gate = None
        self._due = _next_test(None, self._shadow)
        return self._forward(self._splitter.end())

    def usage(self) -> Usage:
        """Return what to settle.

        The final report of the stream if it gave one. Otherwise (cut, client gone, no report) the
        reported or else the estimated prompt, and the counted or reported completion, whichever is
        larger: reports of an unfinished stream run behind.
        """
        reported = self._reader.usage
        if reported is not None and self._reader.final:
            return reported
        if reported is None or reported.prompt is None or reported.completion is None:
            return Usage(self._prompt, self.counted, self._prompt + self.counted)
        prompt = reported.prompt or self._prompt
        completion = max(reported.completion, self.counted)
        return Usage(
            prompt,
            completion,
            prompt + completion,
            cached_input=reported.cached_input,
            cached_audio=reported.cached_audio,
            cache_write=reported.cache_write,
            cache_write_1h=reported.cache_write_1h,
            audio_input=reported.audio_input,
            reasoning=reported.reasoning,
            audio_output=reported.audio_output,
            image_output=reported.image_output,
        )

    def _read(self, chunk: bytes) -> bytes:
        pieces = self._splitter.feed(chunk)
        self._between = self._splitter.between
        return self._forward(pieces)

    def _forward(self, pieces: list[Piece]) -> bytes:
        out: list[bytes] = []
        for raw, data, _ in pieces:
            if data is not None:
                text, hidden, null_usage, alike = self._reader.read(data)
                if text and self._counts(text):
                    out.append(self._close(raw, data))
                    break
                if hidden:
                    continue
                passed = without_null_usage(raw) if null_usage else raw
                if not alike:
                    self._shape = None  # the reader may see things differently from now on
                elif self._lessons and is_plain(text):
                    self._learn(raw, passed, text)
                out.append(passed)
                continue
            out.append(raw)
        return b"".join(out)

    def _learn(self, raw: bytes, passed: bytes, text: str) -> None:
        """Expect more events like this one."""
        self._lessons -= 1
        shape = learn(raw, passed, text, self._text_of, self._limit)
        if shape is not None:
            self._shape = shape

    def _text_of(self, event: bytes) -> str:
        data = parse_event(event).data
        return self._reader.read(data).text if data is not None else ""

    def _counts(self, text: str) -> bool:
        """Count a text; return whether it may not pass."""
        self.counted += self._count(text)
        return self.counted >= self._due and self._crosses()

    def _crosses(self) -> bool:
        shadow, gate = self._shadow, self._gate
        if shadow is not None and shadow.crossed(self.counted):
            self.would_truncate = True
        if gate is not None and gate.crossed(self.counted):
            self.truncated = True
        self._due = _next_test(gate, shadow)
        return self.truncated

    def _close(self, raw: bytes, data: bytes) -> bytes:
        """Return the close form in place of the piece that crossed."""
        if self._cut is None:
            return b""
        prompt = self.usage().prompt or self._prompt
        closing = self._reader.close(prompt, self.counted, self._cut.streaming)
        if not self._array:
            return closing
        separator = raw[: len(raw) - len(data)]
        return separator + closing + (b"]" if separator.strip() else b"")
