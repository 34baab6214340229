"""Any bytes of a client: plain heads are read as llhttp reads them, and pieces change nothing.

The first byte says where the pieces are cut and in which manner (decision API or proxy).
"""

from tests.daemon.front.test_plain_heads import PARTS, requests

UNFINISHED = PARTS.index("unfinished")


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
    """Return what was heard with the pieces of a body put together.

    Behind a request that is the last of its connection nobody reads on.
    """
    out: list[object] = []
    body = b""
    last = False
    for each in heard:
        if each[0] == "excess" and isinstance(each[1], bytes):
            body += each[1]
            continue
        out += [body] if body else []
        body = b""
        if isinstance(each[0], str) and each[0][0] in "45":
            return [*out, "refused"]  # for which of its faults depends on the pieces
        is_request = len(each) > len(PARTS)
        out.append(each)
        last = last or (is_request and each[-2] is False)
        if last and not (is_request and each[UNFINISHED]):
            break
    return [*out, body]
