import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.llm.cut import Cut
from daemon.llm.meter import Framing, StreamMeter, framing_of, quarter_bytes
from daemon.llm.providers import Family
from protocol.bundle import Streaming
from protocol.usage import Usage


def sse(*events: object, done: bool = False) -> bytes:
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join(lines + ["data: [DONE]\n\n"] * done).encode()


def chat(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


def claude(text: str) -> dict[str, Any]:
    return {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "text_delta", "text": text},
    }


def bard(text: str, **more: object) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"text": text}]}}], **more}


USAGE_CHUNK = {
    "choices": [],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}
CLAUDE_START = [
    {"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text"}},
]


def run(meter: StreamMeter, *chunks: bytes) -> bytes:
    return b"".join(meter.feed(chunk) for chunk in chunks) + meter.end()


def events_of(output: bytes) -> list[Any]:
    blocks = output.decode().split("\n\n")[:-1]
    return [json.loads(block.partition("data: ")[2]) for block in blocks if "[DONE]" not in block]


def small(cap: int, how: Streaming | None = None) -> Cut:
    return Cut(cap, replace(how or Streaming(), buffer_tokens=1))


pieces_of = {
    "openai": [
        sse(chat("hello")),
        sse(chat("é" * 9)),
        sse(USAGE_CHUNK),
        sse(done=True),
        b": hi\n\n",
    ],
    "anthropic": [sse(*CLAUDE_START), sse(claude("hello")), sse({"type": "message_stop"}), b"\n\n"],
    "gemini": [sse(bard("hello", usageMetadata={"promptTokenCount": 3})), b"data: {x}\r\n\r\n"],
}


@given(st.data(), st.sampled_from(["openai", "anthropic", "gemini"]), st.booleans())
def test_chunks_do_not_matter(data: st.DataObject, family: Family, hide_usage: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    stream = b"".join(data.draw(st.lists(st.sampled_from(pieces_of[family]), max_size=12)))
    stream = stream[: data.draw(st.integers(0, len(stream)))]
    cap = data.draw(st.none() | st.integers(1, 20))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    bounds = [0, *cuts, len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(bounds)]

    def metered(parts: list[bytes]) -> tuple[object, ...]:
        cut = None if cap is None else Cut(cap, Streaming(buffer_tokens=2))
        meter = StreamMeter(family, prompt_tokens=7, cut=cut, hide_usage=hide_usage)
        return run(meter, *parts), meter.counted, meter.truncated, meter.usage()

    assert metered(chunks) == metered([stream])


@given(st.lists(st.sampled_from(pieces_of["openai"])), st.booleans())
def test_usage_is_hidden_iff_not_asked_for(pieces: list[bytes], hide: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    meter = StreamMeter("openai", hide_usage=hide)
    shown = [piece for piece in pieces if not (hide and piece == sse(USAGE_CHUNK))]
    assert run(meter, *pieces) == b"".join(shown)
    if sse(USAGE_CHUNK) in pieces:
        assert meter.usage() == Usage(9, 2, 11)


def test_only_the_extra_chunk_is_hidden() -> None:
    with_text = {**chat("a"), "usage": USAGE_CHUNK["usage"]}
    filtered: dict[str, Any] = {"choices": [], "prompt_filter_results": []}
    stream = sse(with_text, filtered)
    assert run(StreamMeter("openai", hide_usage=True), stream) == stream


def test_a_cut_closes_every_open_choice_in_the_name_of_the_stream() -> None:
    def chunk(*choices: dict[str, Any]) -> dict[str, Any]:
        return {"id": "c1", "model": "m", "choices": list(choices)}

    def word(index: int, finish: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": {"content": "12345678"}, "finish_reason": finish}

    meter = StreamMeter("openai", cut=Cut(5, Streaming(buffer_tokens=1)))
    stream = sse(chunk(word(2)), chunk(word(0, "stop")), chunk(word(1)))
    assert events_of(run(meter, stream))[-1] == {
        "id": "c1",
        "model": "m",
        "choices": [
            {"index": 1, "delta": {}, "finish_reason": "length"},
            {"index": 2, "delta": {}, "finish_reason": "length"},
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": 6, "total_tokens": 6},
    }


def test_a_cut_of_a_legacy_completion_is_one() -> None:
    meter = StreamMeter("openai", cut=small(1))
    stream = sse({"object": "text_completion", "choices": [{"index": 0, "text": "1" * 16}]})
    end = events_of(run(meter, stream))[-1]
    assert end["object"] == "text_completion"
    assert end["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}]


def test_a_usage_chunk_with_a_choice_that_says_nothing_is_hidden() -> None:
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    mute = {"choices": [{"index": 0, "delta": {}}], "usage": USAGE_CHUNK["usage"]}
    assert run(StreamMeter("openai", hide_usage=True), sse(end, mute)) == sse(end)
    assert run(StreamMeter("openai", hide_usage=True), sse(mute, end)) == sse(mute, end)
    assert run(StreamMeter("openai"), sse(end, mute)) == sse(end, mute)


def test_a_null_usage_is_hidden_with_the_extra_chunk() -> None:
    # OpenAI says it on every chunk once usage is asked for, and never otherwise.
    plain = {"id": "c", "choices": [{"delta": {"content": 'say "usage":null'}}]}
    for asked_for in ({**plain, "usage": None}, {"usage": None, **plain}):
        assert run(StreamMeter("openai", hide_usage=True), sse(asked_for)) == sse(plain)
        assert run(StreamMeter("openai"), sse(asked_for)) == sse(asked_for)


def test_counts_all_that_the_model_writes() -> None:
    meter = StreamMeter("openai")
    call = {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "12345"}}]}}]}
    thought = {"choices": [{"delta": {"reasoning_content": "1234"}}]}
    parts = {"choices": [{"delta": {"content": [{"thinking": [{"text": "1234"}]}]}}]}
    legacy = {"choices": [{"text": "1234"}, {"text": "1"}]}
    run(meter, sse(call, thought, parts, legacy, {"choices": [{"delta": {"role": "x"}}]}))
    assert meter.counted == 2 + 1 + 1 + 2


def test_counts_with_a_vocabulary() -> None:
    meter = StreamMeter("openai", count=len)
    run(meter, sse(chat("12345")))
    assert meter.counted == 5


def test_anthropic_cut_stops_the_open_block() -> None:
    meter = StreamMeter("anthropic", prompt_tokens=99, cut=small(3))
    output = run(meter, sse(*CLAUDE_START, claude("123456789012")), sse(claude("1"), claude("2")))
    assert meter.truncated
    assert events_of(output)[-3:] == [
        {"type": "content_block_stop", "index": 1},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "max_tokens", "stop_sequence": None},
            "usage": {"output_tokens": 4},
        },
        {"type": "message_stop"},
    ]
    assert b"event: message_stop\ndata: " in output
    assert meter.usage() == Usage(25, 4, 29)


def test_anthropic_reports_may_come_late_and_often() -> None:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 0, "output_tokens": 1}}}
    late = {"type": "message_delta", "delta": {}, "usage": {"input_tokens": 40, "output_tokens": 5}}
    last = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 9, "cache_read_input_tokens": 2},
    }
    meter = StreamMeter("anthropic", prompt_tokens=7)
    stream = sse(start, claude("x" * 400), late, last, {"type": "message_stop"})
    assert run(meter, stream) == stream
    assert meter.usage() == Usage(42, 9, 51, cached_input=2)
    assert meter.done


def test_gemini_cut_in_events() -> None:
    meter = StreamMeter("gemini", prompt_tokens=8, cut=small(3))
    output = run(meter, sse(bard("1234")), sse(bard("1" * 12)))
    assert events_of(output)[-1] == {
        "candidates": [
            {
                "content": {"parts": [{"text": ""}], "role": "model"},
                "finishReason": "MAX_TOKENS",
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 8,
            "candidatesTokenCount": 4,
            "totalTokenCount": 12,
        },
    }


@pytest.mark.parametrize("texts", [["1" * 16], ["1", "1" * 16], ["1", "1", "1" * 16, "1"]])
def test_gemini_cut_in_an_array_leaves_an_array(texts: list[str]) -> None:
    stream = json.dumps([bard(text) for text in texts]).replace("}, {", "}\n,\r\n{").encode()
    meter = StreamMeter("gemini", cut=small(3), framing="array")
    output = json.loads(run(meter, *(stream[at : at + 3] for at in range(0, len(stream), 3))))
    assert meter.truncated
    assert output[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert output[:-1] == [bard("1")] * texts.index("1" * 16)


def test_gemini_array_passes_unchanged_and_is_metered() -> None:
    meta = {"promptTokenCount": 10, "candidatesTokenCount": 20, "totalTokenCount": 30}
    stream = json.dumps([bard("hi"), bard("ho", usageMetadata=meta)], indent=1).encode()
    meter = StreamMeter("gemini", framing="array")
    assert run(meter, stream) == stream
    assert meter.usage() == Usage(10, 20, 30)


def test_responses_cut_ends_incomplete() -> None:
    meter = StreamMeter("openai", prompt_tokens=5, cut=small(3))
    created = {
        "type": "response.created",
        "sequence_number": 0,
        "response": {"id": "r1", "object": "response", "status": "in_progress", "usage": None},
    }
    delta = {"type": "response.output_text.delta", "sequence_number": 1, "delta": "1" * 16}
    output = run(meter, sse(created), sse(delta))
    end = events_of(output)[-1]
    assert end["type"] == "response.incomplete"
    assert end["sequence_number"] == 2
    assert end["response"] == {
        "id": "r1",
        "object": "response",
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "usage": {
            "input_tokens": 5,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 4,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 9,
        },
    }
    assert b"[DONE]" not in output


def test_responses_error_and_no_usage() -> None:
    how = Streaming(on_limit_exceeded="error_chunk", include_partial_usage=False)
    meter = StreamMeter("openai", cut=small(1, how))
    delta = {"type": "response.output_text.delta", "delta": "1" * 16}
    sound = {"type": "response.output_audio.delta", "delta": "1" * 99}
    error, end = events_of(run(meter, sse(sound, delta)))[-2:]
    assert error["code"] == "completion_tokens_exceeded"
    assert "usage" not in end["response"]
    assert meter.counted == 4


@pytest.mark.parametrize("family", ["openai", "anthropic", "gemini"])
def test_partial_usage_may_be_left_out(family: Family) -> None:
    text = {"openai": chat, "anthropic": claude, "gemini": bard}[family]("1" * 16)
    meter = StreamMeter(family, cut=small(1, Streaming(include_partial_usage=False)))
    output = run(meter, sse(text))
    assert meter.truncated
    assert b"sage" not in output.replace(b"message", b"")


def test_shadow_only_notes() -> None:
    meter = StreamMeter("openai", shadow=small(1))
    stream = sse(chat("1" * 16), chat("more"), done=True)
    assert run(meter, stream) == stream
    assert (meter.would_truncate, meter.truncated, meter.done) == (True, False, True)


def test_client_gone_settles_what_was_produced() -> None:
    meter = StreamMeter("openai", prompt_tokens=10)
    meter.feed(sse(chat("1" * 40)) + b"data: {")
    assert meter.usage() == Usage(10, 10, 20)
    running = {**chat("x"), "usage": {"prompt_tokens": 12, "completion_tokens": 3}}
    meter = StreamMeter("openai", prompt_tokens=10)
    meter.feed(sse(chat("1" * 40), running))
    assert meter.usage() == Usage(12, 11, 23)


def test_the_tail_is_read_but_not_cut() -> None:
    tail = sse(chat("1" * 16)).rstrip(b"\n")
    meter = StreamMeter("openai", cut=small(1))
    assert run(meter, tail) == tail
    assert meter.counted == 4
    meter = StreamMeter("openai", hide_usage=True)
    assert run(meter, sse(USAGE_CHUNK).rstrip(b"\n")) == b""


def test_nothing_follows_a_cut() -> None:
    meter = StreamMeter("openai", cut=small(1))
    assert meter.feed(sse(chat("1" * 16), chat("x"))).endswith(b"data: [DONE]\n\n")
    assert meter.feed(sse(chat("x"))) == b""
    assert meter.end() == b""


def test_framing() -> None:
    expected: list[tuple[Family, str, Framing]] = [
        ("gemini", "application/json; charset=UTF-8", "array"),
        ("gemini", "text/event-stream", "sse"),
        ("openai", "application/json", "sse"),
    ]
    for family, content_type, framing in expected:
        assert framing_of(family, content_type) == framing


def test_a_quarter_of_the_bytes() -> None:
    assert [quarter_bytes(text) for text in ("", "a", "abcd", "abcde", "éé", "é€")] == [
        0, 1, 1, 2, 1, 2,
    ]  # fmt: skip


EVENT_NAMES = st.sampled_from(
    [
        "choices", "delta", "content", "usage", "type", "response", "message", "index", "text",
        "candidates", "parts", "usageMetadata", "promptTokenCount", "input_tokens", "output_tokens",
        "prompt_tokens", "cache_creation", "promptTokensDetails", "tokenCount", "functionCall",
    ]
)  # fmt: skip
EVENT_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(
        ["message_start", "message_delta", "content_block_delta", "response.completed", "x"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(EVENT_NAMES, inner, max_size=4),
    max_leaves=15,
)


@given(st.lists(st.dictionaries(EVENT_NAMES, EVENT_VALUES), max_size=4))
def test_any_events_are_tolerated(events: list[object]) -> None:
    stream = sse(*events)
    for family in ("openai", "anthropic", "gemini"):
        meter = StreamMeter(family)
        assert run(meter, stream) == stream
        assert meter.usage().total >= 0
