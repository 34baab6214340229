"""Every fixture, sent to a real daemon: its answer is the one in the file."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.examples.place import ROOT, Place

FOLDER = ROOT / "examples/fixtures"
FAMILIES = ("anthropic", "decision", "gemini", "openai")
CASES = ("allowed", "over-limit", "prompt-too-large", "tpd-exceeded", "tpm-exceeded")
OURS = re.compile(r"ratelimit|retry-after|x-fairvisor-|www-authenticate")
VARYING = re.compile(r"\\\{(?:(\d+)\\\.\\\.(\d+)|text)\\\}")


@dataclass(frozen=True)
class Message:
    """The first line, the headers by lower-case name, the body."""

    start: str
    headers: dict[str, str]
    body: str


def read(path: Path) -> Message:
    head, _, body = path.read_text().partition("\n\n")
    start, *lines = head.split("\n")
    pairs = (line.split(": ", 1) for line in lines)
    return Message(start, {name.lower(): value for name, value in pairs}, body.strip())


def matches(expected: str, value: str) -> bool:
    """Tell whether `value` is the expected one, where `{1..5}` is a number and `{text}` an id."""
    pattern = re.escape(expected)
    ranges = [found.groups() for found in VARYING.finditer(pattern)]
    pattern = VARYING.sub(lambda found: r"(\d+)" if found[1] else r"([\w-]{20,})", pattern)
    found = re.fullmatch(pattern, value)
    return found is not None and all(
        low is None or int(low) <= int(part) <= int(high)
        for part, (low, high) in zip(found.groups(), ranges, strict=True)
    )


def alike(expected: object, value: object) -> bool:
    """Tell whether a JSON value is the expected one, whose texts may vary as headers do."""
    if isinstance(expected, dict) and isinstance(value, dict):
        return expected.keys() == value.keys() and all(
            alike(each, value[key]) for key, each in expected.items()
        )
    if isinstance(expected, list) and isinstance(value, list):
        return len(expected) == len(value) and all(map(alike, expected, value))
    if isinstance(expected, str) and isinstance(value, str):
        return matches(expected, value)
    return expected == value


@pytest.mark.parametrize(
    ("expected", "value", "same"),
    [
        ("5", "5", True),
        ("5", "55", False),
        ("{1..5}", "5", True),
        ("{1..5}", "6", False),
        ("{1..5}", "", False),
        ('"a";r=0;t={1..5}', '"a";r=0;t=1', True),
        ('"a";r=0;t={1..5}', '"a";r=1;t=1', False),
        ("{text}", "b_nYs_9xJdBEJsJF6sKrHslAM5M", True),
        ("{text}", "", False),
    ],
)
def test_how_values_are_compared(expected: str, value: str, same: bool) -> None:  # noqa: FBT001 - a table
    assert matches(expected, value) is same


@pytest.mark.parametrize(
    ("expected", "value", "same"),
    [
        ({"a": ["{1..5} s", 1]}, {"a": ["3 s", 1]}, True),
        ({"a": ["{1..5} s", 1]}, {"a": ["6 s", 1]}, False),
        ({"a": ["{1..5} s", 1]}, {"a": ["3 s", 2]}, False),
        ({"a": 1}, {"a": 1, "b": 1}, False),
        ([1], [1, 2], False),
        ({}, [], False),
        ({"a": None}, {"a": None}, True),
    ],
)
def test_how_bodies_are_compared(expected: object, value: object, same: bool) -> None:  # noqa: FBT001 - a table
    assert alike(expected, value) is same


def test_every_case_is_there_in_every_shape() -> None:
    folders = {(path.parent.name, path.name) for path in FOLDER.glob("*/*/")}
    assert folders == {(family, case) for family in FAMILIES for case in CASES}
    requests = {path.name.partition("-")[0] for path in FOLDER.glob("*/*/*-request.http")}
    assert requests == {"1", "2"}


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_the_files(
    family: str, place: Place, connect: Callable[[int], Any]
) -> None:
    place.provider()
    place.terminal(
        "set -a; . examples/fixtures/fixtures.env; exec fairvisor serve",
        "fairvisor: INFO: ready on",
    )
    asked = 0
    for path in sorted((FOLDER / family).glob("*/*-request.http")):
        request = read(path)
        expected = read(path.with_name(path.name.replace("request", "answer")))
        method, target, _ = request.start.split(" ")
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        with connect(place.port) as connection:
            answer = connection.request(target, headers, method, request.body.encode())
        place_of = str(path.relative_to(FOLDER))
        assert expected.start.split(" ")[1] == str(answer.status), place_of
        for name, value in expected.headers.items():
            assert matches(value, answer.headers.get(name, "")), (place_of, name, answer.headers)
        unlisted = {name for name in answer.headers if OURS.match(name)} - set(expected.headers)
        assert not unlisted, place_of
        if expected.body:
            assert alike(json.loads(expected.body), json.loads(answer.body)), place_of
        else:
            assert answer.body == b"", place_of
        if answer.status == 429:
            base = int(answer.headers["ratelimit-reset"])
            assert base <= int(answer.headers["retry-after"]) <= -(-3 * base // 2), place_of
        asked += 1
    assert asked == len(CASES) + 1
