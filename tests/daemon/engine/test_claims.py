import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.engine.claims import (
    MAX_CACHED_BYTES,
    ClaimsCache,
    base64url,
    claim_text,
    read_unverified,
)


def encoded(value: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def bearer(value: object) -> bytes:
    return b"Bearer a." + encoded(value) + b".c"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_any_object_between_two_dots_is_claims(claims: dict[str, object]) -> None:
    assert read_unverified(bearer(claims)) == claims


@pytest.mark.parametrize(
    "authorization",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer not-a-jwt",
        b"Bearer a.b",
        b"Bearer " + encoded({}) + b"." + encoded({"sub": "u"}),
        bearer({"sub": "u"}) + b".x",
        bearer({"sub": "u"}).replace(b"Bearer", b"bearer"),
        bearer({"sub": "u"}).replace(b"Bearer", b"Basic"),
        bearer({"sub": "u"}).replace(b"Bearer ", b"Bearer\t"),
        bearer(["sub"]),
        bearer("sub"),
        bearer(None),
        b"Bearer a.bm90anNvbg.c",
        b"Bearer a..c",
        b"Bearer a.eyJzdWIiOiJ1Ijp9.c",
        b"Bearer a.e.c",
        b"Bearer a.eyJ\xff.c",
    ],
)
def test_anything_else_has_none(authorization: bytes) -> None:
    assert read_unverified(authorization) is None


def test_padding_is_tolerated_but_foreign_characters_are_not() -> None:
    assert base64url(b"YQ") == base64url(b"YQ==") == b"a"
    assert base64url(b"_-8") == b"\xff\xef"
    for text in (b"/+8", b"Y Q", b"Y\nQ=", b"YQ=", b"YQ===", b"Y", b"!!!!"):
        with pytest.raises(ValueError, match=r"."):
            base64url(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("u1", "u1"),
        ("", None),
        (42, "42"),
        (-1, "-1"),
        (0, "0"),
        (2**70, "1180591620717411303424"),
        (True, "true"),
        (False, "false"),
        (1.5, "1.5"),
        (42.0, "42"),
        (1e3, "1000"),
        (1e300, "1e+300"),
        (float("inf"), None),
        (None, None),
        ([], None),
        (["a"], None),
        ({}, None),
        ({"a": "b"}, None),
    ],
)
def test_values_become_text(value: object, text: str | None) -> None:
    assert claim_text(value) == text


def test_the_cache_answers_as_the_reader_does() -> None:
    cache = ClaimsCache(limit=4)
    for number in range(50):
        header = bearer({"sub": number % 7})
        assert cache.read(header) == read_unverified(header)
    assert cache.read(b"Bearer rubbish") is None
    assert cache.read(bearer({"sub": 1})) is cache.read(bearer({"sub": 1}))


def test_giants_are_read_but_not_kept() -> None:
    cache = ClaimsCache()
    giant = bearer({"sub": "u" * MAX_CACHED_BYTES})
    first, second = cache.read(giant), cache.read(giant)
    assert first == second
    assert first is not second


@given(st.binary(max_size=60))
def test_no_bytes_make_it_raise(rest: bytes) -> None:
    claims = read_unverified(b"Bearer a." + rest + b".c")
    assert claims is None or isinstance(claims, dict)
