import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.llm.event_shape import EventShape, is_plain, learn
from daemon.llm.framing import MAX_EVENT_BYTES
from daemon.llm.meter import StreamMeter
from daemon.llm.sse import parse_event

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
        assert shape.read(raw) == (text, raw, len(raw))
        assert shape.read(b"before" + raw + raw, 6) == (text, raw, 6 + len(raw))


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
        "b",
        event("b", pad="yy"),
        len(event("b", usage=None, pad="yy")),
    )


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


@given(
    texts=st.lists(TEXTS, max_size=12),
    pads=st.lists(st.text("abcXYZ019", max_size=4), min_size=12, max_size=12),
    ascii_only=st.booleans(),
    nulls=st.booleans(),
    cuts=st.lists(st.integers(0, 2000), max_size=6),
)
def test_a_stream_by_events_is_metered_as_one_in_any_other_division(
    *, texts: list[str], pads: list[str], ascii_only: bool, nulls: bool, cuts: list[int]
) -> None:
    extra = {"usage": None} if nulls else {}
    events = [
        event(text, pad=pad, ascii_only=ascii_only, **extra)
        for text, pad in zip(texts, pads, strict=False)
    ]
    events.append(b"data: [DONE]\n\n")
    whole = b"".join(events)
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    parts = [whole[a:b] for a, b in pairwise(places)]
    results = []
    for pieces in (events, parts, [whole]):
        meter = StreamMeter("openai", hide_usage=True, max_event_bytes=MAX_EVENT_BYTES)
        out = b"".join(meter.feed(piece) for piece in pieces) + meter.end()
        results.append((out, meter.counted, meter.done))
    assert results[0] == results[1] == results[2]
    assert results[0][1] == sum(-(-len(text.encode()) // 4) for text in texts)
