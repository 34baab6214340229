import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.llm.cut import Cut
from daemon.llm.event_shape import EventShape, is_plain, learn
from daemon.llm.meter import StreamMeter
from daemon.llm.sse import parse_event
from protocol.bundle import Streaming

LIMIT = 2000


def event(text: str, *, pad: str = "", ascii_only: bool = True, **extra: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    value = {"id": "c1", "model": "m", "choices": [choice], **extra}
    if pad:
        value["obfuscation"] = pad
    data = json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))
    return f"data: {data}\n\n".encode()


def text_of(raw: bytes) -> str:
    return str(json.loads(parse_event(raw).data or b"")["choices"][0]["delta"]["content"])


def learnt(raw: bytes, text: str, clean: bytes | None = None) -> EventShape:
    shape = learn(raw, clean or raw, text, text_of, LIMIT)
    assert shape is not None
    return shape


@pytest.mark.parametrize("pad", ["", "Ab0"])
def test_another_text_in_the_same_place_is_read(pad: str) -> None:
    shape = learnt(event(" the", pad=pad), " the")
    for text in ("", " a", "é", "字", "{}", "c1"):
        raw = event(text, pad=pad * 3, ascii_only=False)
        assert shape.read(raw) == (text.encode(), raw, len(raw))
        assert shape.read(b"before" + raw + raw, 6) == (text.encode(), raw, 6 + len(raw))


@pytest.mark.parametrize(
    "raw",
    [
        event("a", extra=1),
        event("a", id="c2"),
        event("a\n"),
        event('a"'),
        event("a\\"),
        event("é"),  # as an escape
        event("a", ascii_only=False).replace(b'"a"', b'"\xff"'),
        event("a").replace(b'"a"', b'"\x00"'),
        event("a").replace(b'"a"', b'"a'),
        b"\n" + event("a"),
        event("a")[:-1],
        event("a")[:-1] + b"\r\n",
        event("a").replace(b"data:", b"data :"),
        event("a" * LIMIT),
        b"",
        b"data: [DONE]\n\n",
    ],
)
def test_anything_else_is_left_to_the_parser(raw: bytes) -> None:
    assert learnt(event(" the"), " the").read(raw) is None


@pytest.mark.parametrize("pad", [b"a b", b"a\\u0041", b"\xff", b""])
def test_padding_must_be_padding(pad: bytes) -> None:
    shape = learnt(event(" the", pad="Ab0"), " the")
    assert shape.read(event(" the", pad="Ab0").replace(b"Ab0", pad)) is None


def test_what_must_not_pass_does_not() -> None:
    raw, clean = event(" the", usage=None, pad="x"), event(" the", pad="x")
    assert learnt(raw, " the", clean).read(event("b", usage=None, pad="yy")) == (
        b"b",
        event("b", pad="yy"),
        len(event("b", usage=None, pad="yy")),
    )


@pytest.mark.parametrize("first", [{"usage": None}, {}])
def test_what_must_not_pass_is_between_the_text_and_the_padding(first: dict[str, None]) -> None:
    """Elsewhere nothing is learnt: where it lies would depend on the padding, or on nothing."""
    choice = {"delta": {"content": " the"}}
    value = {**first, "choices": [choice], "obfuscation": "x", "usage": None}
    raw = f"data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
    clean = raw.replace(b'"usage":null,', b"").replace(b',"usage":null', b"")
    assert len(clean) == len(raw) - 13
    assert learn(raw, clean, " the", text_of, LIMIT) is None


def test_a_text_that_stands_elsewhere_too_teaches_nothing() -> None:
    assert learn(event("m"), event("m"), "m", text_of, LIMIT) is None


def test_an_end_that_may_be_half_of_another_teaches_nothing() -> None:
    raw = event("a")[:-1] + b"\r"
    assert learn(raw, raw, "a", text_of, LIMIT) is None


def test_a_place_that_is_not_the_texts_teaches_nothing() -> None:
    # "ab" is the text, in two pieces; the literal "ab" is something else.
    raw = b'data: {"model":"ab","parts":["a","b"]}\n\n'

    def joined(event: bytes) -> str:
        return "".join(json.loads(parse_event(event).data or b"")["parts"])

    assert learn(raw, raw, "ab", joined, LIMIT) is None


@pytest.mark.parametrize("text", ["", "a\n", 'a"', "a\\", "\ud800"])
def test_only_plain_texts_are_looked_for(text: str) -> None:
    assert not is_plain(text)


TEXTS = st.one_of(
    st.sampled_from([" the", "\n", "", '"', "é", "\u2028", "m", "字"]), st.text(max_size=6)
).filter(lambda text: not any("\ud800" <= each <= "\udfff" for each in text))


def other(index: int = 0, reason: str | None = None, **extra: object) -> bytes:
    choice = {"index": index, "delta": {}, "finish_reason": reason}
    value = {"id": "c2", "choices": [choice], **extra}
    return f"data: {json.dumps(value)}\n\n".encode()


USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
OTHERS = st.sampled_from(
    [
        other(),
        other(0, "stop"),
        other(1, "stop"),
        other(usage=USAGE),
        event("\n", id="c3"),
        event("e", id="c3"),
        b": ping\n\n",
        b"data: [DONE]\n\n",
    ]
)


SECOND = event("d").replace(b'"index":0', b'"index":1')


@example(  # a text after its choice has finished: both are closed
    texts=["aaaa", other(0, "stop"), "aaaa", SECOND], pads=[""] * 12, manner=(True, False),
    cuts=[], cap=2,
)  # fmt: skip
@example(  # the event that crosses names the stream otherwise than the one before it
    texts=["aaaa", event("\n", id="c3"), "aaaa"], pads=[""] * 12, manner=(True, False),
    cuts=[], cap=2,
)  # fmt: skip
@given(
    texts=st.lists(st.one_of(TEXTS, OTHERS), max_size=12),
    pads=st.lists(st.text("abcXYZ019", max_size=4), min_size=12, max_size=12),
    manner=st.tuples(st.booleans(), st.booleans()),
    cuts=st.lists(st.integers(0, 2000), max_size=6),
    cap=st.integers(1, 12),
)
def test_a_stream_by_events_is_metered_as_one_in_any_other_division(
    *,
    texts: list[str | bytes],
    pads: list[str],
    manner: tuple[bool, bool],
    cuts: list[int],
    cap: int,
) -> None:
    ascii_only, nulls = manner
    extra = {"usage": None} if nulls else {}
    events = [
        text if isinstance(text, bytes) else event(text, pad=pad, ascii_only=ascii_only, **extra)
        for text, pad in zip(texts, pads, strict=False)
    ]
    whole = b"".join(events)
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    parts = [whole[a:b] for a, b in pairwise(places)]
    single = [bytes((byte,)) for byte in whole]  # never a whole event, so never a known shape
    results = []
    for pieces in (single, events, parts, [whole]):
        cut = Cut(cap, Streaming(buffer_tokens=1))
        meter = StreamMeter("openai", hide_usage=True, cut=cut)
        out = b"".join(meter.feed(piece) for piece in pieces) + meter.end()
        results.append((out, meter.counted, meter.done, meter.usage()))
    assert results[0] == results[1] == results[2] == results[3]
