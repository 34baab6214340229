import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.frames import FrameError, FrameReader, pack

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
messages = st.lists(values, min_size=1, max_size=5)


@given(st.lists(messages, max_size=4), st.integers(1, 9))
def test_what_is_packed_is_read_however_it_is_cut(sent: list[list[object]], size: int) -> None:
    stream = b"".join(map(pack, sent))
    reader = FrameReader()
    read = [
        message
        for start in range(0, len(stream), size)
        for message in reader.feed(stream[start : start + size])
    ]
    assert read == sent


def test_a_long_frame_in_many_pieces_is_joined_once() -> None:
    stream = pack([b"x" * (48 << 20)])
    reader = FrameReader()
    began = time.process_time()
    read = [
        message
        for start in range(0, len(stream), 65_536)
        for message in reader.feed(stream[start : start + 65_536])
    ]
    assert len(read) == 1
    # Joined anew with every piece, 18 GB are copied: several seconds instead of 0.05.
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ([2**64], [2**64 - 1]),
        ([-(2**80), [2**70, 3]], [-(2**63), [2**64 - 1, 3]]),
        ([{"a": 2**65, "b": True}], [{"a": 2**64 - 1, "b": True}]),
        (["\ud800", 2**64], ["\ud800", 2**64 - 1]),
        ([("x", 1)], [["x", 1]]),
    ],
)
def test_integers_and_text_beyond_msgpack(sent: list[object], read: list[object]) -> None:
    assert FrameReader().feed(pack(sent)) == [read]
    assert FrameReader().feed(pack([1])) == [[1]]  # nothing is left over in the packer


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",  # never used
        b"\x90",  # an empty array
        b"\x01",  # no array
        b"\x91",  # an array that ends early
        b"\x91\x01\x01",  # and something after it
        b"\x91\x81\x90\x01",  # a map with an array for a key
        b"\x91\xa1\xff",  # not UTF-8
        b"\x91" * 5000,  # too deep
    ],
)
def test_other_bytes_are_a_frame_error(body: bytes) -> None:
    with pytest.raises(FrameError):
        FrameReader().feed(struct.pack("<I", len(body)) + body)


def test_a_long_frame_is_refused_by_its_length_alone() -> None:
    reader = FrameReader(limit=10)
    assert reader.feed(pack([b"x" * 6])) == [[b"x" * 6]]
    with pytest.raises(FrameError, match="over the limit of 10"):
        reader.feed(struct.pack("<I", 11))
