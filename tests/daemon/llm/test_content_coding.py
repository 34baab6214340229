"""Compressed bodies in pieces of every size, and those that are none."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.llm.content_coding import CodingError, decoder_for

LIMIT = 1 << 22
RAW = zlib.compressobj(wbits=-zlib.MAX_WBITS)
TEXT = b"data: tok\n\n" * 30_000
BARE = RAW.compress(TEXT) + RAW.flush()
CODED = {
    "gzip": gzip.compress(TEXT),
    "X-GZIP ": gzip.compress(TEXT[:9]) + bytes(4) + gzip.compress(TEXT[9:]) + bytes(2),
    "deflate": zlib.compress(TEXT),
    "Deflate": BARE,
}


@pytest.mark.parametrize("coding", CODED)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_pieces_of_every_size(coding: str, size: int) -> None:
    decoder = decoder_for(coding)
    assert decoder is not None
    coded = CODED[coding]
    pieces = [decoder.feed(coded[at : at + size], LIMIT) for at in range(0, len(coded), size)]
    assert b"".join(pieces) == TEXT


@given(st.binary(max_size=2000), st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_a_flushed_piece_is_known_at_once(text: bytes, sizes: list[int]) -> None:
    coder = zlib.compressobj(wbits=31)
    decoder = decoder_for("gzip")
    assert decoder is not None
    at = 0
    for size in sizes:
        piece = text[at : at + size]
        at += size
        coded = coder.compress(piece) + coder.flush(zlib.Z_SYNC_FLUSH)
        assert decoder.feed(coded, LIMIT) == piece


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_what_is_not_so_coded(coding: str) -> None:
    decoder = decoder_for(coding)
    assert decoder is not None
    with pytest.raises(CodingError):
        decoder.feed(b'{"usage": {}}' * 9, LIMIT)


def test_a_little_that_expands_to_a_lot() -> None:
    decoder = decoder_for("gzip")
    assert decoder is not None
    with pytest.raises(CodingError):
        decoder.feed(gzip.compress(bytes(LIMIT + 1)), LIMIT)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress", ""])
def test_codings_that_are_not_read_here(coding: str) -> None:
    assert decoder_for(coding) is None
