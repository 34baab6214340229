"""Answers of an upstream that could be read in different ways, and what a client may get of them.

`status` and `body` are what the client gets whole; `status` 502 that the daemon answers for the
upstream; `body` None that the answer breaks off, so that the client knows that it is not complete.
Whatever it is, the next request gets its own answer.
"""

from dataclasses import dataclass

NEXT = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Forged: yes\r\n\r\nforged"
"""A response that nobody asked for."""


@dataclass(frozen=True)
class Case:
    """One answer. An empty piece at the end closes the connection."""

    name: str
    pieces: tuple[bytes, ...]
    status: int
    body: bytes | None = b""
    method: str = "GET"


def answer(*lines: bytes, body: bytes = b"", start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return start + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"
FIVE = b"Content-Length: 5"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"


def ok(name: str, *pieces: bytes, body: bytes = b"hello", status: int = 200) -> Case:
    return Case(name, pieces, status, body)


def refused(name: str, *pieces: bytes) -> Case:
    return Case(name, pieces, 502)


def broken(name: str, *pieces: bytes) -> Case:
    return Case(name, pieces, 200, None)


def chunks(name: str, body: bytes, *more: bytes) -> Case:
    """Return an answer whose head is right and whose chunks are not: it breaks off."""
    return broken(f"chunk-{name}", answer(CHUNKED), body, *more)


CASES = (
    ok("plain", answer(FIVE, body=b"hello")),
    ok("chunked", answer(CHUNKED, body=HELLO)),
    ok("in-pieces", b"HTTP/1.1 200 OK\r\nContent-", b"Length: 5\r\n\r\nhe", b"llo"),
    ok("until-close", answer(body=b"hello"), b""),
    ok("http-1.0", answer(body=b"hello", start=b"HTTP/1.0 200 OK"), b""),
    # a length and chunks, two lengths, odd lengths
    refused("cl-te", answer(FIVE, CHUNKED, body=HELLO)),
    refused("te-cl", answer(CHUNKED, FIVE, body=HELLO)),
    refused("cl-twice", answer(FIVE, b"Content-Length: 6", body=b"hello!")),
    refused("cl-twice-same", answer(FIVE, FIVE, body=b"hello")),
    refused("cl-list", answer(b"Content-Length: 5, 5", body=b"hello")),
    refused("cl-plus", answer(b"Content-Length: +5", body=b"hello")),
    refused("cl-minus", answer(b"Content-Length: -5", body=b"hello")),
    refused("cl-hex", answer(b"Content-Length: 0x5", body=b"hello")),
    refused("cl-empty", answer(b"Content-Length:", body=b"hello"), b""),
    refused("cl-huge", answer(b"Content-Length: 99999999999999999999", body=b"hello"), b""),
    refused("cl-space-colon", answer(b"Content-Length : 5", body=b"hello")),
    refused("te-space-colon", answer(b"Transfer-Encoding : chunked", body=HELLO)),
    refused("te-gzip", answer(b"Transfer-Encoding: gzip, chunked", body=HELLO)),
    refused("te-identity", answer(b"Transfer-Encoding: identity", body=b"hello"), b""),
    refused("te-xchunked", answer(b"Transfer-Encoding: xchunked", body=HELLO), b""),
    refused("te-twice", answer(CHUNKED, CHUNKED, body=HELLO)),
    refused("te-not-last", answer(b"Transfer-Encoding: chunked, identity", body=HELLO), b""),
    ok("te-1.0", answer(CHUNKED, body=HELLO, start=b"HTTP/1.0 200 OK"), b""),
    # heads
    refused("no-http", b"hello", b""),
    refused("http-0.9", b"<html>hello</html>", b""),
    refused("http-2", answer(FIVE, body=b"hello", start=b"HTTP/2 200 OK")),
    refused("http-3.1", answer(FIVE, body=b"hello", start=b"HTTP/3.1 200 OK")),
    refused("status-word", answer(FIVE, body=b"hello", start=b"HTTP/1.1 OK")),
    refused("status-four", answer(FIVE, body=b"hello", start=b"HTTP/1.1 2000 OK")),
    refused("lf", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
    refused("fold", answer(b"X: a\r\n b", FIVE, body=b"hello")),
    refused("nul", answer(b"X: a\0b", FIVE, body=b"hello")),
    refused("cr-in-value", answer(b"X: a\rSet-Cookie: forged=1", FIVE, body=b"hello")),
    refused("lf-in-value", answer(b"X: a\nSet-Cookie: forged=1", FIVE, body=b"hello")),
    refused("cr-in-reason", answer(FIVE, body=b"hello", start=b"HTTP/1.1 200 O\rX-Forged: y")),
    refused("name-space", answer(b"X Y: a", FIVE, body=b"hello")),
    refused("101", answer(b"Upgrade: h2c", start=b"HTTP/1.1 101 Switching Protocols") + NEXT),
    # informational answers are skipped
    ok("100", answer(start=b"HTTP/1.1 100 Continue") + answer(FIVE, body=b"hello")),
    ok(
        "103", answer(b"Link: </a>", start=b"HTTP/1.1 103 Early Hints"), answer(FIVE, body=b"hello")
    ),
    ok("102-cl", answer(FIVE, start=b"HTTP/1.1 102 Processing") + answer(FIVE, body=b"hello")),
    refused("100-only", answer(start=b"HTTP/1.1 100 Continue"), b""),
    # answers without a body, and something behind them
    ok("204", answer(start=b"HTTP/1.1 204 No Content"), body=b"", status=204),
    ok("204-next", answer(start=b"HTTP/1.1 204 No Content") + NEXT, body=b"", status=204),
    ok("204-cl", answer(FIVE, start=b"HTTP/1.1 204 No Content") + b"hello", body=b"", status=204),
    ok("204-te", answer(CHUNKED, start=b"HTTP/1.1 204 No Content") + HELLO, body=b"", status=204),
    ok("304-next", answer(start=b"HTTP/1.1 304 Not Modified") + NEXT, body=b"", status=304),
    ok("304-cl", answer(FIVE, start=b"HTTP/1.1 304 Not Modified") + b"hello", body=b"", status=304),
    Case("head-cl", (answer(FIVE),), 200, method="HEAD"),
    Case("head-body", (answer(FIVE, body=b"hello"),), 200, method="HEAD"),
    Case("head-next", (answer(FIVE) + NEXT,), 200, method="HEAD"),
    Case("head-chunked", (answer(CHUNKED, body=HELLO),), 200, method="HEAD"),
    ok("cl-next", answer(FIVE, body=b"hello") + NEXT),
    ok("cl-more", answer(FIVE, body=b"hello, world")),
    ok("chunked-next", answer(CHUNKED, body=HELLO) + NEXT),
    ok("zero-next", answer(b"Content-Length: 0") + NEXT, body=b""),
    ok("close-next", answer(FIVE, b"Connection: close", body=b"hello") + NEXT),
    ok("trailer", answer(CHUNKED, body=b"5\r\nhello\r\n0\r\nX-Forged: yes\r\n\r\n")),
    ok("204-more", answer(start=b"HTTP/1.1 204 No Content") + b"hello", body=b"", status=204),
    # what ends too early
    broken("cl-short", answer(FIVE, body=b"hel"), b""),
    chunks("short", b"5\r\nhel", b""),
    chunks("no-last", b"5\r\nhello\r\n", b""),
    chunks("overflow", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    chunks("negative", b"-5\r\nhello\r\n0\r\n\r\n"),
    chunks("0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    chunks("lf", b"5\nhello\n0\n\n"),
    chunks("no-end", b"5\r\nhelloXX0\r\n\r\n"),
    chunks("longer", b"4\r\nhello\r\n0\r\n\r\n"),
    chunks("space", b" 5\r\nhello\r\n0\r\n\r\n"),
)

LATE = (
    ok("late-204", answer(start=b"HTTP/1.1 204 No Content"), NEXT, body=b"", status=204),
    ok("late-cl", answer(FIVE, body=b"hello"), NEXT),
    Case("late-head", (answer(FIVE), NEXT), 200, method="HEAD"),
)
"""An answer, and a moment later one that nobody has asked for."""
