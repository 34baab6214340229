"""JSON text to values, with problems that say where and how to mend it.

Stricter than a plain decoder: it finds keys that stand twice in one object, of which decoders
silently keep the last, and it bounds the nesting before anything walks the values.
"""

import json
import math
from collections.abc import Iterator

import orjson

DEEPEST = 64
"""Levels of nesting; a bundle needs nine, and its free-form `defaults` may need a few."""


class JsonTextError(Exception):
    """The text is not usable JSON: says where (line and column from 1) and how to mend it.

    `steps` lead to the value that is not usable, if it is one.
    """

    def __init__(self, message: str, steps: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.steps = steps


class _Pairs(list[tuple[str, object]]):
    """One object as its pairs, told apart from an array."""


def decode(text: bytes) -> object:
    """Return the value of a JSON text.

    Raises:
        JsonTextError: empty, not UTF-8, not JSON, or nested deeper than `DEEPEST`.
    """
    if not text.strip():
        raise JsonTextError("the text is empty: expected a JSON object")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        steps = _too_large(text) if "infinity" in error.msg else ()
        raise JsonTextError(_explain(text, error), steps) from None
    if _deeper_than(value, DEEPEST):
        raise JsonTextError(f"the JSON is nested deeper than {DEEPEST} levels")
    return value


def duplicate_keys(text: bytes) -> list[tuple[tuple[str | int, ...], str]]:
    """Return (path of the object, key) for every key that stands twice in one object.

    `text` must have passed `decode`; numbers are not converted again.
    """
    tree = json.loads(text, object_pairs_hook=_Pairs, parse_int=str, parse_float=str)
    return list(_doubled(tree))


def _doubled(tree: object) -> Iterator[tuple[tuple[str | int, ...], str]]:
    waiting: list[tuple[tuple[str | int, ...], object]] = [((), tree)]
    while waiting:
        path, value = waiting.pop()
        items: list[tuple[str | int, object]] = []
        if isinstance(value, _Pairs):
            seen: dict[str, int] = {}
            for key, inner in value:
                seen[key] = seen.get(key, 0) + 1
                items.append((key, inner))
            yield from ((path, key) for key, count in seen.items() if count > 1)
        elif isinstance(value, list):
            items.extend(enumerate(value))
        waiting.extend(
            ((*path, step), inner) for step, inner in reversed(items) if isinstance(inner, list)
        )


def _too_large(text: bytes) -> tuple[str | int, ...]:
    """Return the steps to the first number that no double can hold, none if they cannot be told."""
    try:
        tree = json.loads(text, parse_int=float, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return ()  # there is more that is wrong
    waiting: list[tuple[tuple[str | int, ...], object]] = [((), tree)]
    while waiting:
        path, value = waiting.pop()
        items: list[tuple[str | int, object]] = []
        if isinstance(value, dict):
            items.extend(value.items())
        elif isinstance(value, list):
            items.extend(enumerate(value))
        elif isinstance(value, float) and math.isinf(value):
            return path
        waiting.extend(((*path, step), inner) for step, inner in reversed(items))
    return ()


def _deeper_than(value: object, levels: int) -> bool:
    """Tell whether a value nests deeper than `levels`, level by level and without recursion."""
    level = [value]
    for _ in range(levels):
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        level = [each for each in inner if isinstance(each, dict | list)]
        if not level:
            return False
    return True


def _explain(text: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        decoded = text.decode()
    except UnicodeDecodeError as bad:
        line = text.count(b"\n", 0, bad.start) + 1
        column = bad.start - text.rfind(b"\n", 0, bad.start)
        hint = (
            "; it looks like UTF-16: save the file as UTF-8"
            if text[:2] in (b"\xff\xfe", b"\xfe\xff")
            else ""
        )
        return f"not valid UTF-8 at line {line}, byte {column}{hint}"
    if any(word in error.msg for word in ("depth", "ecursion", "allocate")):
        return f"the JSON is nested deeper than {DEEPEST} levels (line {error.lineno})"
    if "infinity" in error.msg:
        return (
            f"the number at line {error.lineno}, column {error.colno} is too large:"
            " numbers go to about 1.8e308"
        )
    hint = _hint(decoded, error.pos)
    return f"not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}{hint}"


_VALUE_BEGINS = frozenset('"{[-0123456789')
_VALUE_ENDS = frozenset('"}]0123456789el')

_HINTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("\ufeff",), "save the file as UTF-8 without a byte-order mark"),
    (("'",), "strings and keys take double quotes"),
    (("//", "/*", "#"), "JSON has no comments"),
    (("True", "False", "None"), "write true, false or null"),
    (("NaN", "Infinity", "-Infinity"), "JSON has no such number"),
    (("+", "."), "a number begins with a digit or a minus"),
)


def _hint(text: str, position: int) -> str:
    """Return "; …" on how to mend the text at `position`, if its look tells."""
    rest = text[position : position + 20]
    if not rest.strip():
        return "; the text ends too early: a quote or a bracket is not closed, or the file is cut"
    for beginnings, hint in _HINTS:
        if rest.startswith(beginnings):
            return f"; {hint}"
    before = text[max(0, position - 200) : position].rstrip()
    if before and rest[0] in _VALUE_BEGINS and before[-1] in _VALUE_ENDS:
        return "; a comma is missing before this"
    if before and before[-1] in "{," and rest[0].isidentifier():
        return "; keys and strings take double quotes"
    return ""
