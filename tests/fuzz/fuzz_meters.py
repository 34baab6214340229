"""Any bytes of a model's stream: pieces change neither usage nor output nor the cut.

The first two bytes choose family, framing, cap and where the pieces are cut.
"""

from itertools import pairwise

from daemon.llm.cut import Cut
from daemon.llm.meter import Framing, StreamMeter
from daemon.llm.providers import Family
from protocol.bundle import Streaming

FAMILIES: tuple[tuple[Family, Framing], ...] = (
    ("openai", "sse"),
    ("anthropic", "sse"),
    ("gemini", "sse"),
    ("gemini", "array"),
)
CAPS = (None, 1, 5, 20)
MAX_EVENT = 400
_CUT_OUTPUT = 64 << 10


def one_input(data: bytes) -> None:
    """Meter it whole, byte by byte where it is short, and in pieces."""
    if len(data) < 2:
        return
    how, width, stream = data[0], data[1] + 1, data[2:]
    whole = metered(how, [stream])
    places = [*range(0, len(stream), width), len(stream)]
    assert metered(how, [stream[a:b] for a, b in pairwise(places)]) == whole
    usage, out, truncated = whole
    assert min(usage.prompt or 0, usage.completion or 0, usage.total) >= 0
    if CAPS[how // 4 % 4] is None:
        assert not truncated
        if not how & 64:
            assert out == stream
    assert len(out) <= len(stream) + _CUT_OUTPUT


def metered(how: int, pieces: list[bytes]) -> tuple["object", bytes, bool]:
    """Return usage, output and whether it was cut."""
    family, framing = FAMILIES[how % 4]
    cap = CAPS[how // 4 % 4]
    cut = None if cap is None else Cut(cap, Streaming(buffer_tokens=1))
    meter = StreamMeter(
        family,
        prompt_tokens=3,
        cut=cut,
        shadow=cut if how & 128 else None,
        hide_usage=bool(how & 64),
        framing=framing,
        max_event_bytes=MAX_EVENT,
    )
    out = b"".join([meter.feed(piece) for piece in pieces]) + meter.end()
    return meter.usage(), out, meter.truncated
