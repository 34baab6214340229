"""Any bytes of an upstream: one end, one outcome, and pieces change nothing.

The first byte says where the pieces are cut and whether the answer has no body (to HEAD).
"""

from tests.daemon.front.test_plain_heads import response


def one_input(data: bytes) -> None:
    """Read it whole, after its first byte, and in three pieces."""
    if not data:
        return
    how, rest = data[0], data[1:]
    headless = how % 8 == 0
    at = max(1, how * len(rest) // 256)
    whole = response(rest, headless=headless)
    heard, body, freed, _ = whole
    ends = [each for each in heard if isinstance(each, str)]
    assert len(ends) <= 1
    assert heard[-1:] == ends or not ends
    assert not (headless and body)
    assert freed <= 1
    pieces = [piece for piece in (rest[:1], rest[1:at], rest[at:]) if piece]
    # What comes behind an answer is the pool's to see: it ends the connection.
    assert response(*pieces, headless=headless)[:2] == (heard, body)
