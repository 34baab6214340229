"""Any bytes of a client: plain heads are read as llhttp reads them, and pieces change nothing.

The first byte says where the pieces are cut and in which manner (decision API or proxy).
"""

from tests.daemon.front.test_plain_heads import requests


def one_input(data: bytes) -> None:
    """Read it whole, after its first byte, and in two more pieces."""
    if not data:
        return
    how, rest = data[0], data[1:]
    verbatim = how % 2 == 0
    whole = joined(requests(rest, verbatim=verbatim))
    # a first byte on its own is never plain: the rest is llhttp's to judge
    assert whole == joined(requests(rest[:1], rest[1:], verbatim=verbatim))
    at = max(1, how * len(rest) // 256)
    assert whole == joined(requests(rest[:1], rest[1:at], rest[at:], verbatim=verbatim))


def joined(heard: list[tuple[object, ...]]) -> list[object]:
    """Return what was heard with the pieces of a body put together."""
    out: list[object] = []
    body = b""
    for each in heard:
        if each[0] == "excess" and isinstance(each[1], bytes):
            body += each[1]
            continue
        out += [body, each] if body else [each]
        body = b""
    return [*out, body]
