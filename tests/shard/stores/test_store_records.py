"""A log gives back a prefix of whole records or nothing, whatever became of its end (§13.5)."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard.stores.records import Records, encode

TEXT = st.text(st.characters(exclude_categories=[]), max_size=20)  # lone surrogates, too
LEAVES = st.none() | st.booleans() | st.integers(-(2**90), 2**90) | TEXT | st.binary(max_size=20)
BODIES = st.lists(
    LEAVES | st.lists(LEAVES, max_size=4) | st.dictionaries(TEXT, LEAVES, max_size=3), max_size=6
)
LOGS = st.lists(BODIES, max_size=6)


def written(bodies: list[list[object]]) -> bytes:
    return b"".join(map(encode, bodies))


@given(LOGS)
def test_what_was_written_is_read(bodies: list[list[object]]) -> None:
    records = Records(written(bodies))
    assert list(records) == bodies
    assert records.left == 0


@given(LOGS, st.data())
def test_any_prefix_gives_whole_records(bodies: list[list[object]], data: st.DataObject) -> None:
    log = written(bodies)
    cut = data.draw(st.integers(0, len(log)))
    records = Records(log[:cut])
    found = list(records)
    assert found == bodies[: len(found)]
    assert written(found) == log[: records.end]
    following = written(bodies[: len(found) + 1])
    assert len(found) == len(bodies) or len(following) > cut


@given(LOGS.filter(bool), st.data())
def test_a_changed_byte_ends_the_log_where_it_is(
    bodies: list[list[object]], data: st.DataObject
) -> None:
    log = bytearray(written(bodies))
    at = data.draw(st.integers(0, len(log) - 1))
    log[at] ^= data.draw(st.integers(1, 255))
    found = list(Records(bytes(log)))
    assert found == bodies[: len(found)]
    assert len(written(found)) <= at


@given(LOGS, st.binary(max_size=64) | st.integers(1, 200).map(bytes))
def test_rubbish_and_zeros_behind_it_are_not_believed(
    bodies: list[list[object]], rubbish: bytes
) -> None:
    found = list(Records(written(bodies) + rubbish))
    assert found[: len(bodies)] == bodies
    # rubbish with a checksum of its own would be a record; four random bytes are none
    assert len(found) == len(bodies)


def test_histories_and_large_numbers() -> None:
    body: list[object] = [deque([1, 2, 3]), 2**64, -(2**63) - 1, (1, 2), 10**30]
    assert list(Records(encode(body))) == [[[1, 2, 3], 2**64, -(2**63) - 1, [1, 2], 10**30]]


def test_what_cannot_be_stored_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="cannot be stored"):
        encode([object()])
