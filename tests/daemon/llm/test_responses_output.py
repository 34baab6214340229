from itertools import pairwise
from typing import Any

import pytest

from daemon.llm.responses_output import ResponseOutput
from tests.upstreams.asked import ARGUMENTS, THOUGHTS, WORD, Asked
from tests.upstreams.responses_format import response, response_events
from tests.upstreams.sse_reader import events_of

TOOLS = [{"type": "function", "name": name} for name in ("a", "b")]
ASKED = Asked({"input": "x", "reasoning": {"effort": "low"}}, "/v1/responses", 4)
CALLED = Asked({"input": "x", "tools": TOOLS}, "/v1/responses", 4)


def cut_at(asked: Asked, place: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what a client sees of a stream that is cut before an event, and the items."""
    events = [each for raw, _ in response_events(asked) for each in events_of(raw)]
    output = ResponseOutput()
    for event in events[: place + 1]:
        output.take(event["type"], event)
    return [*events[:place], *output.finish()], output.items


def deltas(asked: Asked) -> list[int]:
    events = [each for raw, _ in response_events(asked) for each in events_of(raw)]
    return [n for n, event in enumerate(events) if event["type"].endswith(".delta")]


@pytest.mark.parametrize("asked", [ASKED, CALLED])
def test_all_that_began_ends_once(asked: Asked) -> None:
    for place in deltas(asked):
        seen, items = cut_at(asked, place)
        names = [event["type"] for event in seen]
        for begun, ended in (
            ("response.output_item.added", "response.output_item.done"),
            ("response.content_part.added", "response.content_part.done"),
            ("response.reasoning_summary_part.added", "response.reasoning_summary_part.done"),
        ):
            assert names.count(begun) == names.count(ended)
        assert len(items) == names.count("response.output_item.added")
        assert items[-1]["status"] == "incomplete"
        assert seen[-1]["item"] == items[-1]
        whole = response(asked)[0]["output"]
        assert items[:-1] == whole[: len(items) - 1]


@pytest.mark.parametrize("asked", [ASKED, CALLED])
def test_the_items_hold_what_the_client_was_sent(asked: Asked) -> None:
    for place in deltas(asked):
        seen, items = cut_at(asked, place)
        sent = "".join(event["delta"] for event in seen if event["type"].endswith(".delta"))
        parts = [
            part for item in items for part in (*item.get("content", ()), *item.get("summary", ()))
        ]
        held = [part["text"] for part in parts] + [item.get("arguments", "") for item in items]
        assert "".join(held) == sent


def test_the_event_that_crosses_is_not_in_it() -> None:
    at = deltas(ASKED)[len(THOUGHTS) + 2]
    assert cut_at(ASKED, at)[1][-1]["content"][0]["text"] == WORD * 2
    assert cut_at(CALLED, deltas(CALLED)[3])[1][0]["arguments"] == "".join(ARGUMENTS[:3])


def test_texts_end_before_their_parts() -> None:
    for place in deltas(ASKED):
        names = [event["type"] for event in cut_at(ASKED, place)[0]]
        for before, after in pairwise(names):
            if after == "response.content_part.done" and before != "response.content_part.added":
                assert before == "response.output_text.done"


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("response.output_text.delta", {"delta": "x"}),
        ("response.output_text.delta", {"output_index": 7, "delta": "x"}),
        ("response.output_text.delta", {"output_index": 0, "delta": 1}),
        ("response.content_part.added", {"output_index": 0, "part": 1}),
        ("response.output_item.added", {"output_index": 1, "item": None}),
        ("response.output_item.added", {"output_index": "1", "item": {}}),
        ("response.unheard_of.delta", {"output_index": 0, "delta": "x"}),
    ],
)
def test_malformed_events_change_nothing(kind: str, event: dict[str, Any]) -> None:
    output = ResponseOutput()
    item = {"id": "m", "type": "message", "content": []}
    output.take("response.output_item.added", {"output_index": 0, "item": item})
    output.take(kind, event)
    output.take("response.in_progress", {})
    output.take("response.in_progress", {})
    assert output.finish()[-1]["item"] == {**item, "status": "incomplete"}
    assert output.finish() == []
