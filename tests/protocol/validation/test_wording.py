import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.validation.report import child, item
from protocol.validation.wording import guess, listing, quote, show


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (0.1, "0.1"),
        (math.nan, "nan"),
        ("x", '"x"'),
        ("x" * 61, '"' + "x" * 60 + '"…'),
        ("a\n\x1b[31m\u202eb\ud800", '"a\\n\\x1b[31m\\u202eb\\ud800"'),
        ([], "an empty array"),
        ([1, [2]], "an array of 2"),
        ({}, "an empty object"),
        ({"a": 1}, "an object of 1"),
        (object(), "a object"),
    ],
)
def test_show(value: object, shown: str) -> None:
    assert show(value) == shown


def test_huge_integers_are_not_spelled_out() -> None:
    assert show(10**5000) == show(-(10**5000)) == "a huge integer"


@given(st.text(st.characters()))
def test_quotes_are_short_and_printable(text: str) -> None:
    assert quote(text).isprintable()
    assert len(quote(text)) <= 60 * len("\\U0001f600") + 3


def test_listing() -> None:
    assert listing(["a"]) == "`a`"
    assert listing(["a", "b", "c"]) == "`a`, `b` or `c`"


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("token-bucket", "; did you mean `token_bucket`?"),
        ("TOKEN_BUCKET ", "; did you mean `token_bucket`?"),
        ("quota", ""),
        ("token_bucket" * 1000, ""),
        (None, ""),
        (7, ""),
    ],
)
def test_guess(text: object, remark: str) -> None:
    assert guess(text, ("token_bucket", "sliding_window")) == remark


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("a", "$.a"),
        ("gpt-4.1", "$.gpt-4.1"),
        ("jwt:plan", "$.jwt:plan"),
        ("", "$['']"),
        ("a\nb", "$['a\\nb']"),
        ("x" * 101, "$['" + "x" * 100 + "…']"),
    ],
)
def test_places(key: str, place: str) -> None:
    assert child("$", key) == place
    assert item(place, 3) == f"{place}[3]"
