import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.json_text import DEEPEST, JsonTextError, decode, duplicate_keys

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=15,
)


def fault(text: bytes) -> str:
    with pytest.raises(JsonTextError) as caught:
        decode(text)
    return str(caught.value)


@given(JSON)
def test_json_is_read_and_has_no_duplicates(value: object) -> None:
    text = orjson.dumps(value)
    assert decode(text) == value
    assert duplicate_keys(text) == []


@given(st.binary())
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    message = ""
    try:
        value = decode(text)
    except JsonTextError as error:
        message = str(error)
    else:
        assert orjson.loads(text) == value
        duplicate_keys(text)
    assert message.isprintable()


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        (b"", ["empty"]),
        (b" \r\n\t", ["empty"]),
        (b'{"a": 1,\n "b": [1, 2}', ["line 2", "column 12"]),
        (b'{"a":1,}', ["line 1", "comma"]),
        (b'{"a":1 "b":2}', ["a comma is missing"]),
        (b"[1 2]", ["a comma is missing"]),
        (b"{'a':1}", ["double quotes"]),
        (b"{a:1}", ["double quotes"]),
        (b'// c\n{"a":1}', ["no comments"]),
        (b'{"a":1} # c', ["no comments"]),
        (b'{"a":True}', ["true, false or null"]),
        (b'{"a":None}', ["true, false or null"]),
        (b'{"a":NaN}', ["no such number"]),
        (b'{"a":+1}', ["digit"]),
        (b'{"a":[1,2', ["too early"]),
        (b'{"a":"x', ["too early"]),
        (b"\xef\xbb\xbf{}", ["byte-order mark"]),
        (b"\xff\xfe{\0}\0", ["UTF-8", "UTF-16"]),
        (b'{\n"a":"\xe9"}', ["not valid UTF-8", "line 2", "byte 6"]),
        (b'{"a":"\\ud800"}', ["line 1"]),
        (b"1" * 5000, ["line 1"]),
        (b"1e400", ["line 1"]),
        (b"<html>", ["line 1", "column 1"]),
    ],
)
def test_faults_say_where_and_how(text: bytes, fragments: list[str]) -> None:
    for fragment in fragments:
        assert fragment in fault(text)


@pytest.mark.parametrize("levels", [DEEPEST + 1, 1000, 5000, 100_000])
def test_deep_nesting_is_refused(levels: int) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        assert "nested deeper" in fault(opening * levels + b"1" + closing * levels)


def test_allowed_nesting_is_walked() -> None:
    text = b"[" * DEEPEST + b"]" * DEEPEST
    assert decode(text) == json.loads(text)
    assert duplicate_keys(text) == []


def test_duplicates_are_found_wherever_they_stand() -> None:
    text = b'{"a":1,"b":[{"c":1},{"d":{"e":1,"e":{"f":1,"f":2}}}],"a":{"a":1},"a":3}'
    assert duplicate_keys(text) == [
        ((), "a"),
        (("b", 1, "d"), "e"),
        (("b", 1, "d", "e"), "f"),
    ]
