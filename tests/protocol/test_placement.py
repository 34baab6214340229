from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.placement import MAX_KEY_CHARS, encode_key, key_digest, placement

text = st.text(alphabet=st.characters(), max_size=8) | st.text(alphabet="0123:ab", max_size=8)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ([], ""),
        (["acme"], "acme"),
        ([""], ""),
        (["a", "b"], "1:a1:b"),
        (["a:b", ""], "3:a:b0:"),
        (["x" * MAX_KEY_CHARS], "x" * MAX_KEY_CHARS),
    ],
)
def test_keys(values: list[str], key: str) -> None:
    assert encode_key(values) == key


@given(st.lists(text, min_size=2, max_size=4), st.data())
def test_different_lists_of_a_rule_never_meet(values: list[str], data: st.DataObject) -> None:
    size = len(values)
    others = data.draw(st.lists(text, min_size=size, max_size=size))
    assert (encode_key(values) == encode_key(others)) == (values == others)


def test_long_keys_are_digests_that_no_text_equals() -> None:
    one, other = encode_key(["x" * 257]), encode_key(["x" * 258])
    assert isinstance(one, bytes)
    assert isinstance(other, bytes)
    assert (len(one), len(other)) == (16, 16)
    assert one != other


@pytest.mark.parametrize(
    ("values", "bound", "whole"),
    [
        (["x" * 16], 16, True),
        (["x" * 17], 16, False),
        (["é" * 16], 16, True),
        (["x" * 6, "y" * 6], 16, True),  # two characters of measure for each
        (["x" * 6, "y" * 7], 16, False),
        (["x" * 1024], 1024, True),
    ],
)
def test_the_bound_is_of_all_values_together(values: list[str], bound: int, *, whole: bool) -> None:
    key = encode_key(values, bound)
    assert isinstance(key, str) == whole
    plain = encode_key(values, 10_000)
    assert isinstance(plain, str)
    assert key == (plain if whole else key_digest(plain))


def test_a_digest_is_the_same_whatever_the_bound() -> None:
    assert encode_key(["x" * 300], 16) == encode_key(["x" * 300], 256) == key_digest("x" * 300)


def test_placement_is_the_same_in_every_process() -> None:
    assert placement("acme") == crc32(b"acme") == 0x5C4BA3E
    assert placement(b"acme") == placement("acme")
    assert placement("\ud800") == crc32(b"\xed\xa0\x80")
