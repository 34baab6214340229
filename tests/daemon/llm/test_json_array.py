import json
import string

from hypothesis import given
from hypothesis import strategies as st

from daemon.llm.framing import Piece
from daemon.llm.json_array import JsonArraySplitter

texts = st.text(string.printable + 'é\\"[]{}', max_size=6)
values = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
arrays = st.lists(st.dictionaries(texts, values, max_size=3), max_size=5)
noise = st.lists(
    st.sampled_from([b"[", b"]", b"{", b"}", b'"', b"\\", b",", b" ", b"1"]), max_size=30
)


def split(chunks: list[bytes], limit: int = 10_000) -> list[Piece]:
    splitter = JsonArraySplitter(limit)
    pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)]
    return pieces + splitter.end()


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


@given(arrays, st.sampled_from([None, 1]))
def test_every_element_is_a_piece(elements: list[object], indent: int | None) -> None:
    stream = json.dumps(elements, indent=indent, ensure_ascii=False).encode()
    pieces = split(bytewise(stream))
    assert b"".join(piece.raw for piece in pieces) == stream
    read = [json.loads(piece.data) for piece in pieces if piece.data is not None]
    assert read == elements
    assert all(piece.raw.endswith(piece.data) for piece in pieces if piece.data is not None)
    assert split([stream]) == pieces


@given(noise.map(b"".join), st.integers(2, 20))
def test_any_bytes_pass_unchanged(stream: bytes, limit: int) -> None:
    whole = split([stream], limit)
    small = split(bytewise(stream), limit)
    assert b"".join(piece.raw for piece in whole) == stream
    assert b"".join(piece.raw for piece in small) == stream
    read = [piece for piece in whole if piece.data is not None]
    assert [piece for piece in small if piece.data is not None] == read


def test_separators_belong_to_the_next_element() -> None:
    pieces = split([b'[{"a":1}\n,\r\n{"a":2}\n]\n'])
    assert [piece.raw for piece in pieces] == [b'[{"a":1}', b'\n,\r\n{"a":2}', b"\n]", b"\n"]


def test_a_lone_object_is_one_piece() -> None:
    assert split([b'{"error":{"code":429}}']) == [
        Piece(b'{"error":{"code":429}}', b'{"error":{"code":429}}')
    ]
