"""Plain heads are read as llhttp reads them: a message whole, and the same after its first byte.

A first byte on its own is never plain, so that the rest of the message is llhttp's to judge.
"""

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.front.inbound import Inbound
from daemon.front.plain_chunks import content_of
from daemon.front.plain_requests import MAX_FIELDS, PlainReader
from daemon.front.plain_responses import PlainResponse, read_response
from daemon.front.refusal import Refusal
from daemon.front.request_reader import RequestReader
from daemon.front.upstream import UpstreamConnection
from daemon.front.upstream_caller import Failure, ResponseHead

HEAD, BODY = 2000, 3000
PARTS = ("body", "headers", "method", "modern", "peer", "raw", "target", "trusted", "unfinished")
HEAD_PARTS = ("headers", "length", "names_nothing", "reason", "status")


class Taken:
    """Keeps what a reader hands over."""

    def __init__(self) -> None:
        self.requests: list[tuple[Any, ...]] = []

    def begun(self) -> None:
        pass

    def expects(self) -> None:
        self.requests.append(("expects",))

    def keeps(self, size: int) -> None:
        pass

    def complete(self, inbound: Inbound, keep: bool, version: str, /) -> None:  # noqa: FBT001
        parts = [getattr(inbound, name) for name in PARTS]
        self.requests.append((*parts, keep, version))

    def take(self, inbound: Inbound, /) -> None:
        self.complete(inbound, True, "1.1")  # noqa: FBT003 - kept alive

    def excess(self, chunk: bytes) -> None:
        self.requests.append(("excess", chunk))

    def excess_ended(self) -> None:
        self.requests.append(("ended",))


def requests(*pieces: bytes, verbatim: bool) -> list[tuple[Any, ...]]:
    taken = Taken()
    reader = RequestReader(
        taken, "p", trusted=True, max_head=HEAD, max_body=BODY, verbatim=verbatim, max_fields=128
    )
    try:
        for piece in pieces:
            reader.feed(piece)
    except Refusal as refusal:
        taken.requests.append((refusal.status, refusal.reason))
    # A list and no list of fields are the same to everyone but `==`.
    return [tuple(list(x) if isinstance(x, tuple) else x for x in each) for each in taken.requests]


class Transport:
    """A socket that takes everything."""

    def __init__(self) -> None:
        self.closing = False

    def write(self, _data: bytes) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    def get_extra_info(self, _name: str) -> None:
        return None


class Loop:
    """Time that stands still."""

    def time(self) -> float:
        return 0.0

    def call_later(self, _seconds: float, _call: object) -> "Loop":
        return self

    def cancel(self) -> None:
        pass


class Asker:
    """Keeps what an upstream says."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.body = b""

    def upstream_sent(self) -> None:
        pass

    def upstream_head(self, head: ResponseHead, *, more: bool) -> "Asker":  # noqa: ARG002
        self.heard.append([getattr(head, name) for name in HEAD_PARTS])
        return self

    def upstream_plain(self, plain: PlainResponse) -> None:
        self.upstream_head(ResponseHead.of(plain), more=True)
        self.upstream_data(plain.body)
        self.upstream_end()

    def upstream_data(self, data: bytes) -> None:
        self.body += data

    def upstream_chunk(self, framed: bytes, start: int) -> None:
        self.upstream_data(framed[start:-2])

    def upstream_end(self) -> None:
        self.heard.append("end")

    def upstream_failed(self, failure: Failure) -> None:
        self.heard.append(failure)

    def upstream_full(self) -> None:
        pass

    def upstream_drained(self) -> None:
        pass


def response(*pieces: bytes, headless: bool) -> tuple[list[Any], bytes, int, bool]:
    freed: list[object] = []
    asker, transport = Asker(), Transport()
    connection = UpstreamConnection(freed.append, lambda _: None, Loop())  # type: ignore[arg-type]
    connection.connection_made(transport)  # type: ignore[arg-type]
    connection.start(b"request", asker, 5.0, headless=headless, uploaded=True)
    for piece in pieces:
        if asker.heard[-1:] not in (["end"], ["broken"]):
            connection.data_received(piece)
    return asker.heard, asker.body, len(freed), transport.closing


NAMES = [
    b"Host", b"A", b"X_Y", b"content-length", b"Content_Length", b"Transfer-Encoding",
    b"Connection", b"Upgrade", b"Expect", b"X-Forwarded-For", b"A B", b"", b" A", b"\xc3\xa4",
    b"A\x00", b"!#$%&'*+.^`|~-",
]  # fmt: skip
SEPARATORS = [b": ", b":", b":  ", b" : ", b":\t"]
VALUES = [
    b"a", b"", b" ", b"0", b"2", b"02", b"+2", b"2, 2", b"2\t", b"0x2", b"1e1", b"chunked",
    b"keep-alive", b"Keep-Alive", b"close", b"upgrade", b"100-continue", b"h2c", b"a\tb", b"a\x7f",
    b"a\x00", b"a\xff", b"a\rb", b"a\nb", b"a\r\n b", b"x" * 600, b"99999999999",
]  # fmt: skip
ENDS = [b"\r\n", b"\n", b" \r\n"]
REQUEST_LINES = [
    b"GET / HTTP/1.1\r\n", b"POST /a?b=%20 HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n", b"HEAD /a HTTP/1.1\r\n", b"GET  / HTTP/1.1\r\n",
    b"FOO / HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n", b"GET http://a/ HTTP/1.1\r\n",
    b"GET /#a HTTP/1.1\r\n", b"GET /\xff HTTP/1.1\r\n", b"GET /a b HTTP/1.1\r\n",
    b"get / HTTP/1.1\r\n", b"GET /a HTTP/1.1 \r\n", b"\r\nGET / HTTP/1.1\r\n",
    b'GET /{}|^`" HTTP/1.1\r\n', b"CONNECT a:1 HTTP/1.1\r\n", b"GET / HTTP/2.0\r\n",
    b"PRI * HTTP/2.0\r\n",
]  # fmt: skip
STATUS_LINES = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 404 Not Found\r\n", b"HTTP/1.1 429 \r\n",
    b"HTTP/1.1 200\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 No\r\n", b"HTTP/1.1 304 N\r\n",
    b"HTTP/1.1 100 Continue\r\n", b"HTTP/1.1 101 S\r\n", b"HTTP/1.1 600 X\r\n",
    b"HTTP/1.1 2000 X\r\n", b"HTTP/1.1  200 OK\r\n", b"HTTP/1.1 200  OK \r\n",
    b"HTTP/1.1 99 X\r\n", b"HTTP/1.1 200 \xc3\x9f\r\n", b"HTTP/1.1 200 O\tK\r\n",
    b"ICY 200 OK\r\n", b"HTTP/1.1 200 OK\n",
]  # fmt: skip
HOST, LENGTH = b"Host: a\r\n", b"Content-Length: 2\r\n"
BODIES = [b"", b"hi", b"hi!", b"h", b"\r\n", b"0\r\n\r\n"]
FIELDS = [b"".join(parts) for parts in product(NAMES, SEPARATORS, VALUES, ENDS)]


def agree_on_request(data: bytes, *, verbatim: bool) -> None:
    whole = requests(data, verbatim=verbatim)
    assert whole == requests(data[:1], data[1:], verbatim=verbatim), data


def agree_on_response(data: bytes, *, headless: bool = False) -> None:
    whole = response(data, headless=headless)
    assert whole == response(data[:1], data[1:], headless=headless), data


def test_a_request_with_one_odd_field_is_read_as_llhttp_reads_it() -> None:
    for at, field in enumerate(FIELDS):
        # A single field is unlike any other only beside what is plain.
        head, body = (b"GET / HTTP/1.1\r\n", b"") if at % 2 else (b"POST / HTTP/1.1\r\n", b"hi")
        plain = HOST + LENGTH if body else HOST
        agree_on_request(head + plain + field + b"\r\n" + body, verbatim=at % 3 == 0)
        if field.lower().startswith((b"content", b"transfer")):
            agree_on_request(head + HOST + field + b"\r\nhi", verbatim=True)
            agree_on_request(head + HOST + field + b"\r\n", verbatim=True)


def test_a_response_with_one_odd_field_is_read_as_llhttp_reads_it() -> None:
    for field in FIELDS:
        agree_on_response(b"HTTP/1.1 200 OK\r\n" + LENGTH + field + b"\r\nhi")
        if field.lower().startswith((b"content", b"transfer")):
            agree_on_response(b"HTTP/1.1 200 OK\r\n" + field + b"\r\nhi")


def test_odd_first_lines_and_bodies_are_read_as_llhttp_reads_them() -> None:
    for start, fields, body in product(REQUEST_LINES, [b"", HOST, HOST + LENGTH], BODIES):
        agree_on_request(start + fields + b"\r\n" + body, verbatim=True)
    for start, fields, body in product(STATUS_LINES, [b"", LENGTH], BODIES):
        agree_on_response(start + fields + b"\r\n" + body)
        agree_on_response(start + fields + b"\r\n" + body, headless=True)


def test_heads_about_as_large_as_they_may_be() -> None:
    for size in range(HEAD - 300, HEAD + 20):
        head = b"GET / HTTP/1.1\r\n" + HOST
        agree_on_request(head + b"A: " + b"b" * size + b"\r\n\r\n", verbatim=True)
        agree_on_request(head + b"A:\r\n" * (size // 20) + b"\r\n", verbatim=True)
    for count in range(90, 140):
        lines = b"".join(b"A%d:b\r\n" % n for n in range(count))
        agree_on_request(b"GET / HTTP/1.1\r\n" + HOST + lines + b"\r\n", verbatim=False)


@given(st.sampled_from(REQUEST_LINES), st.lists(st.sampled_from(FIELDS)), st.sampled_from(BODIES))
def test_any_request_is_read_as_llhttp_reads_it(
    start: bytes, fields: list[bytes], body: bytes
) -> None:
    agree_on_request(start + HOST + b"".join(fields) + b"\r\n" + body, verbatim=True)


@given(st.sampled_from(STATUS_LINES), st.lists(st.sampled_from(FIELDS)), st.sampled_from(BODIES))
def test_any_response_is_read_as_llhttp_reads_it(
    start: bytes, fields: list[bytes], body: bytes
) -> None:
    agree_on_response(start + b"".join(fields) + b"\r\n" + body)


def read_request(data: bytes) -> Inbound | None:
    return PlainReader(
        "p", trusted=True, max_head=HEAD, max_body=BODY, max_fields=128, verbatim=True
    ).read(data)


def test_what_is_plain_is_read_here() -> None:
    found = read_request(b"GET /a?b HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n")
    assert found is not None
    assert (found.method, found.target, found.body) == ("GET", b"/a?b", b"")
    assert found.headers == {b"host": b"a", b"x": b""}
    assert found.raw == [(b"Host", b"a"), (b"X", b"")]
    answer = b"HTTP/1.1 200 OK\r\ncontent-length:  2 \r\nConnection: keep-alive\r\n\r\nhi"
    told = read_response(answer, HEAD)
    assert told is not None
    assert (told.start.status, told.start.reason, told.body) == (200, b"OK", b"hi")
    assert [(field.name, field.value, field.line) for field in told.fields] == [
        (b"content-length", b"2", b"content-length: 2\r\n"),
        (b"Connection", b"keep-alive", b"Connection: keep-alive\r\n"),
    ]
    assert told.head == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


def test_two_lengths_are_none_whatever_they_add_up_to() -> None:
    lines = b"Content-Length: 1\r\ncontent-length: 1\r\n"
    for lengths in (lines, b"Content-Length: 0\r\nContent-length: 2\r\n", b""):
        assert read_response(b"HTTP/1.1 200 OK\r\n" + lengths + b"\r\nhi", HEAD) is None


def post(length: bytes, body: bytes, name: bytes = b"Content-Length", end: bytes = b"") -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: a\r\n%b: %b\r\n%b\r\n" % (name, length, end)
    return head + body


def test_a_head_that_comes_again_with_another_length_is_known_and_read_as_llhttp_reads_it() -> None:
    first, second = (read_request(post(b"%d" % n, b"x" * n)) for n in (2, 11))
    assert first is not None
    assert second is not None
    assert first.head is not None
    assert first.head is second.head
    assert first.headers[b"content-length"] == b"2"
    assert second.headers[b"content-length"] == b"11"
    odd = [b"2", b"02", b"+2", b"2 ", b"", b"2, 2", b"2\r\nX: y", b"0x2", b"2\n", b"9" * 12, b"3"]
    names = [b"Content-Length", b"content-length", b"CONTENT-LENGTH", b"X-Length", b"A"]
    ends = [b"", b"Content-Length: 2\r\n", b"X-Length: 2\r\n", b"A: -Length: 2\r\n"]
    for length, name, end in product(odd, names, ends):
        for _ in range(2):  # the second time from memory
            agree_on_request(post(length, b"hi", name, end), verbatim=True)


def test_a_line_about_lengths_is_not_taken_for_the_length() -> None:
    def asked(marks: bytes, length: bytes) -> bytes:
        return b"POST / HTTP/1.1\r\nHost: a\r\nX-Length: %b\r\nContent-Length: %b\r\n\r\nhi" % (
            marks, length,
        )  # fmt: skip

    for marks in (b"2", b"7", b"x"):
        found = read_request(asked(marks, b"2"))
        assert found is not None
        assert found.headers[b"x-length"] == marks
        assert read_request(asked(marks, b"3")) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nx",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHOST: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nhi",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n" + bytes(4000),
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"A%d: b\r\n" % n for n in range(MAX_FIELDS))
        + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nB: " + b"b" * HEAD + b"\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_not_plain_is_not(data: bytes) -> None:
    assert read_request(data) is None


CHUNKS = [
    b"2\r\nhi\r\n", b"A\r\n0123456789\r\n", b"0a\r\n0123456789\r\n", b"1;a=b\r\nx\r\n",
    b"4\r\n\r\n\r\n\r\n", b"1\r\nx\r\n2\r\nhi\r\n", b"2\r\nhi", b"2\r\n", b"2", b"\r\n", b"hi\r\n",
    b"+1\r\nx\r\n", b"0x1\r\nx\r\n", b"1 \r\nx\r\n", b"1_0\r\n0123456789012345\r\n",
    b"2\r\nhi!\r\n", b"0\r\n", b"0\r\n\r\n", b"00\r\n\r\n", b"A: b\r\n", b"0\r\nA: b\r\n\r\n",
    b"2\nhi\r\n", b"\r\n\r\n", b"-1\r\nx\r\n", b"0000000000000002\r\nhi\r\n",
]  # fmt: skip
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_chunks_that_come_one_a_read_are_read_as_llhttp_reads_them() -> None:
    for pieces in product(CHUNKS, repeat=3):
        data = b"".join(pieces)
        bytewise = response(STREAM, *(data[at : at + 1] for at in range(len(data))), headless=False)
        found = response(STREAM, *pieces, headless=False)
        if found[0][-1:] == ["end"] or found[0][-1:] == ["broken"]:
            assert found[:2] == bytewise[:2], pieces
        else:
            assert found == bytewise, pieces


def test_a_chunk_is_read_here_if_it_is_all_there() -> None:
    assert content_of(b"2\r\nhi\r\n") == content_of(b"2\r\nho\r\n") == 3
    assert content_of(b"00a\r\n0123456789\r\n") == 5
    assert not content_of(b"2\r\nhi\r\n0\r\n\r\n")
    assert not content_of(b"0\r\n\r\n")
