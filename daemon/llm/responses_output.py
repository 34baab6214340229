"""What a Responses stream has written so far, so that a cut can end it as OpenAI does (§11.3).

Shape after platform.openai.com/docs/api-reference/responses-streaming. An item is added, then its
parts, which grow by deltas; each part is done, then the item. An item that the cap ends is done,
too, with the status `incomplete`, and the response holds all of them.

Texts are kept until the stream ends: no more than the cap lets through.
"""

from dataclasses import dataclass, field
from typing import Literal

Place = Literal["content", "summary"]

_PARTS: dict[str, tuple[Place, str]] = {
    "response.content_part": ("content", "content_index"),
    "response.reasoning_summary_part": ("summary", "summary_index"),
}
# The event prefix of a text that grows, the kind of part it is in, and the part's field.
_TEXTS: dict[str, tuple[str, str]] = {
    "response.output_text": ("response.content_part", "text"),
    "response.refusal": ("response.content_part", "refusal"),
    "response.reasoning_text": ("response.content_part", "text"),
    "response.reasoning_summary_text": ("response.reasoning_summary_part", "text"),
}
# Prefixes of texts that are a field of the item itself.
_FIELDS: dict[str, str] = {
    "response.function_call_arguments": "arguments",
    "response.mcp_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
    "response.code_interpreter_call_code": "code",
}


@dataclass(slots=True)
class _Item:
    """An output item. `parts` and `texts` are those that are open, by event prefix and index."""

    item: dict[str, object]
    done: bool = False
    parts: dict[tuple[str, int], dict[str, object]] = field(default_factory=dict)
    texts: dict[tuple[str, int], list[str]] = field(default_factory=dict)


class ResponseOutput:
    """The output items of one stream."""

    __slots__ = ("_items", "_latest")

    def __init__(self) -> None:
        self._items: dict[int, _Item] = {}
        self._latest: tuple[str, dict[str, object]] | None = None

    @property
    def items(self) -> list[dict[str, object]]:
        """The items in their order; whole after `finish`."""
        return [each.item for _, each in sorted(self._items.items())]

    def take(self, kind: str, event: dict[str, object]) -> None:
        """Read one `response.*` event; anything unknown or malformed changes nothing.

        It counts once the next one comes: the one that crosses the cap never reaches the client.
        """
        latest, self._latest = self._latest, (kind, event)
        if latest is not None:
            self._apply(*latest)

    def finish(self) -> list[dict[str, object]]:
        """End all that is open; return the events that say so, without sequence numbers."""
        events: list[dict[str, object]] = []
        for index, found in sorted(self._items.items()):
            if found.done:
                continue
            at: dict[str, object] = {"item_id": found.item.get("id"), "output_index": index}
            for (prefix, number), pieces in found.texts.items():
                text = "".join(pieces)
                _set_text(found, prefix, number, text)
                events.append(
                    {"type": f"{prefix}.done", **at, **_text_fields(prefix, number, text)}
                )
            for (prefix, number), part in sorted(found.parts.items()):
                place, name = _PARTS[prefix]
                _put(found.item, place, number, part)
                events.append({"type": f"{prefix}.done", **at, name: number, "part": part})
            found.item["status"] = "incomplete"
            found.done = True
            done = {"type": "response.output_item.done", "output_index": index}
            events.append({**done, "item": found.item})
        return events

    def _apply(self, kind: str, event: dict[str, object]) -> None:
        index = event.get("output_index")
        if type(index) is not int:
            return
        prefix, _, what = kind.rpartition(".")
        if prefix == "response.output_item":
            item = event.get("item")
            if isinstance(item, dict):
                self._items[index] = _Item(dict(item), done=what == "done")
            return
        found = self._items.get(index)
        if found is None or found.done:
            return
        if prefix in _PARTS:
            _take_part(found, prefix, event, ended=what == "done")
        elif prefix in _TEXTS or prefix in _FIELDS:
            _take_text(found, prefix, event, ended=what == "done")


def _take_part(found: _Item, prefix: str, event: dict[str, object], *, ended: bool) -> None:
    place, name = _PARTS[prefix]
    number = event.get(name)
    part = event.get("part")
    if type(number) is not int or not isinstance(part, dict):
        return
    if ended:
        found.parts.pop((prefix, number), None)
        _put(found.item, place, number, part)
    else:
        found.parts[prefix, number] = dict(part)


def _take_text(found: _Item, prefix: str, event: dict[str, object], *, ended: bool) -> None:
    number = _number(prefix, event)
    delta = event.get("delta")
    if ended:
        pieces = found.texts.pop((prefix, number), [])
        _set_text(found, prefix, number, "".join(pieces))
    elif isinstance(delta, str):
        found.texts.setdefault((prefix, number), []).append(delta)


def _number(prefix: str, event: dict[str, object]) -> int:
    """Return the index of the part that a text is in; 0 for a field of the item."""
    number = event.get(_PARTS[_TEXTS[prefix][0]][1]) if prefix in _TEXTS else 0
    return number if type(number) is int else 0


def _set_text(found: _Item, prefix: str, number: int, text: str) -> None:
    if prefix in _FIELDS:
        found.item[_FIELDS[prefix]] = text
        return
    owner, name = _TEXTS[prefix]
    part = found.parts.get((owner, number))
    if part is not None:
        part[name] = text


def _text_fields(prefix: str, number: int, text: str) -> dict[str, object]:
    """Return the fields of the event that ends a text, beside those of its item."""
    if prefix in _FIELDS:
        return {_FIELDS[prefix]: text}
    owner, name = _TEXTS[prefix]
    fields: dict[str, object] = {_PARTS[owner][1]: number, name: text}
    return {**fields, "logprobs": []} if prefix == "response.output_text" else fields


def _put(item: dict[str, object], place: Place, number: int, part: dict[str, object]) -> None:
    """Set one part of an item; parts come in their order."""
    before = item.get(place)
    parts = list(before) if isinstance(before, list) else []
    item[place] = [*parts[:number], part, *parts[number + 1 :]]
