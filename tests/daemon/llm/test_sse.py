import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.llm.framing import Piece
from daemon.llm.sse import SseSplitter, parse_event

fragments = st.sampled_from(
    [
        b"data:",
        b"data: ",
        b"event: x",
        b": ping",
        b"{}",
        b"a",
        b"\n",
        b"\r\n",
        b"\r",
        b"\n\n",
        b"\xff",
    ]
)
streams = st.lists(fragments, max_size=30).map(b"".join)


def split(chunks: list[bytes], limit: int = 1000) -> list[Piece]:
    splitter = SseSplitter(limit)
    pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)]
    return pieces + splitter.end()


@given(streams)
def test_chunks_do_not_matter(stream: bytes) -> None:
    whole = split([stream])
    assert b"".join(piece.raw for piece in whole) == stream
    assert split([stream[at : at + 1] for at in range(len(stream))]) == whole


@given(streams, st.integers(4, 12))
def test_what_is_read_of_long_events_does_not_depend_on_chunks(stream: bytes, limit: int) -> None:
    whole = split([stream], limit)
    bytewise = split([stream[at : at + 1] for at in range(len(stream))], limit)
    assert b"".join(piece.raw for piece in bytewise) == stream
    read = [piece for piece in whole if piece.data is not None]
    assert [piece for piece in bytewise if piece.data is not None] == read
    assert all(len(piece.raw) <= limit for piece in read)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends(end: bytes) -> None:
    stream = end.join([b"event: e", b"data: 1", b"data:2", b"", b"data:3", b"", b""])
    assert [(piece.name, piece.data) for piece in split([stream])] == [(b"e", b"1\n2"), (b"", b"3")]


def test_a_crlf_is_one_line_end() -> None:
    assert len(split([b"data: 1\r\ndata: 2\r\n\r\n"])) == 1


def test_fields() -> None:
    assert parse_event(b": ping\n\n").data is None
    assert parse_event(b"id: 7\nretry: 1\n\n").data is None
    assert parse_event(b"data\n\n").data == b""
    assert parse_event(b"data:  two spaces\n\n").data == b" two spaces"
    assert parse_event(b"\xef\xbb\xbfdata: first\n\n").data == b"first"


def test_an_event_passes_as_soon_as_it_is_complete() -> None:
    splitter = SseSplitter()
    assert splitter.feed(b"data: 1\n") == []
    assert [piece.data for piece in splitter.feed(b"\ndata")] == [b"1"]


def test_an_endless_event_is_not_held_back() -> None:
    splitter = SseSplitter(100)
    passed = b"".join(piece.raw for _ in range(50) for piece in splitter.feed(b"x" * 50))
    assert len(passed) >= 50 * 50 - 100
