"""What is taken as a request, and what is refused with which status (RFC 9112)."""

from collections.abc import Callable

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.front import request_reader
from daemon.front.inbound import Inbound
from daemon.front.request_reader import Refusal, RequestReader, canonical_name

MAX_HEAD = 1024
MAX_BODY = 64
MAX_FIELDS = 128
HOST = b"Host: a\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Taken:
    """Collects what a reader tells."""

    def __init__(self) -> None:
        self.requests: list[Inbound] = []
        self.kept: list[bool] = []
        self.versions: list[str] = []
        self.begins = 0
        self.expectations = 0
        self.held = 0

    def begun(self) -> None:
        self.begins += 1

    def expects(self) -> None:
        self.expectations += 1

    def keeps(self, size: int) -> None:
        self.held += size

    def take(self, inbound: Inbound, /) -> None:
        self.complete(inbound, True, "1.1")  # noqa: FBT003 - kept alive

    def complete(self, inbound: Inbound, keep: bool, version: str, /) -> None:  # noqa: FBT001
        self.requests.append(inbound)
        self.kept.append(keep)
        self.versions.append(version)


def reader(taken: Taken) -> RequestReader:
    return RequestReader(
        taken,
        "192.0.2.1",
        trusted=False,
        max_head=MAX_HEAD,
        max_body=MAX_BODY,
        max_fields=MAX_FIELDS,
    )


def read(*pieces: bytes) -> Taken:
    taken = Taken()
    parser = reader(taken)
    for piece in pieces:
        parser.feed(piece)
    return taken


def one(*pieces: bytes) -> Inbound:
    (request,) = read(*pieces).requests
    return request


def refused(*pieces: bytes) -> str:
    with pytest.raises(Refusal) as caught:
        read(*pieces)
    return caught.value.status[:3]


def get(*lines: bytes, version: bytes = b"1.1", target: bytes = b"/") -> bytes:
    return b"\r\n".join((b"GET " + target + b" HTTP/" + version, *lines, b"", b""))


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((b"POST / HTTP/1.1", b"Host: a", *lines, b"", body))


def test_a_request_with_its_parts() -> None:
    request = one(b"PUT /a?b=c HTTP/1.1\r\nHost: h\r\nX_Y: 1\r\nContent-Length: 2\r\n\r\nhi")
    assert (request.method, request.target, request.body) == ("PUT", b"/a?b=c", b"hi")
    assert request.headers == {b"host": b"h", b"x-y": b"1", b"content-length": b"2"}
    assert (request.peer, request.trusted) == ("192.0.2.1", False)


@pytest.mark.parametrize(
    ("lines", "name", "value"),
    [
        ([b"X_Asn: a"], b"x-asn", b"a"),
        ([b"X_Asn: a", b"x_asn: b"], b"x-asn", b"a"),
        ([b"X-Asn: a", b"X_Asn: b"], b"x-asn", b"a"),
        ([b"X_Asn: b", b"X-Asn: a"], b"x-asn", b"a"),
        ([b"X_Original_URI: b", b"X-Original-URI: a"], b"x-original-uri", b"a"),
        ([b"X_Asn: b", b"X-Asn: a", b"X-Asn: c", b"X_Asn: d"], b"x-asn", b"a"),
        ([b"X_Id: a", b"X-Id: b"], b"x-id", b"a"),
    ],
)
def test_an_edge_header_with_underscores_counts_if_none_has_dashes(
    lines: list[bytes], name: bytes, value: bytes
) -> None:
    assert one(get(b"Host: a", *lines)).headers[name] == value


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ([b"X_Forwarded_For: a", b"X_Forwarded-For: b"], b"a, b"),
        ([b"X-Forwarded-For: a", b"x-forwarded-for: b"], b"a, b"),
        ([b"X-Forwarded-For: a", b"X_Forwarded_For: b"], b"a"),
        ([b"X_Forwarded_For: b", b"X-Forwarded-For: a"], b"a"),
        ([b"X-Forwarded-For: a", b"X-Forwarded_For: b", b"X-Forwarded-For: c"], b"a, c"),
        ([b"X_Forwarded_For: b", b"X-Forwarded-For: a", b"X_Forwarded_For: d"], b"a"),
    ],
)
def test_underscores_do_not_get_beside_what_a_gateway_says_of_the_client(
    lines: list[bytes], value: bytes
) -> None:
    assert one(get(b"Host: a", *lines)).headers[b"x-forwarded-for"] == value


def test_any_cut_of_the_bytes_reads_the_same() -> None:
    text = post(
        b"Transfer-Encoding: chunked", b"X-Z: 1", body=b"3\r\nabc\r\n1;e=f\r\nd\r\n0\r\n\r\n"
    )
    whole = one(text)
    assert whole.body == b"abcd"
    for cut in range(1, len(text)):
        request = one(text[:cut], text[cut:])
        assert (request.headers, request.body) == (whole.headers, whole.body)
    assert one(*[bytes([byte]) for byte in text]).body == b"abcd"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(get(b"Host: a", b"X: a", b" folded"), id="folded line"),
        pytest.param(get(b" X: y", b"Host: a"), id="space after the request line"),
        pytest.param(b"GET / HTTP/1.1\nHost: a\n\n", id="bare LF everywhere"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", id="bare LF behind a header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", id="bare CR behind a header"),
        pytest.param(get(b"Host: a", b"X: a\0b"), id="NUL in a value"),
        pytest.param(get(b"Host: a", b"X: a\x01b"), id="control byte in a value"),
        pytest.param(get(b"Host: a", b"X\0: a"), id="NUL in a name"),
        pytest.param(get(b"Host: a", b"X\xff: a"), id="high byte in a name"),
        pytest.param(get(b"Host : a"), id="space before the colon"),
        pytest.param(get(b"Host: a", b": a"), id="no name"),
        pytest.param(get(b"Host: a", b"novalue"), id="no colon"),
        pytest.param(get(), id="no Host"),
        pytest.param(get(b"Host: a", b"host: a"), id="two Hosts"),
        pytest.param(get(b"Host: a", b"HOST: b"), id="two different Hosts"),
        pytest.param(post(b"Content-Length: 3", b"Transfer-Encoding: chunked"), id="CL and TE"),
        pytest.param(post(b"Transfer-Encoding: chunked", b"Content-Length: 3"), id="TE and CL"),
        pytest.param(post(b"Content-Length: 3", b"Content-Length: 4"), id="two CLs"),
        pytest.param(post(b"Content-Length: 3", b"Content-Length: 3"), id="two equal CLs"),
        pytest.param(post(b"Content-Length: 3, 3"), id="a list of CLs"),
        pytest.param(post(b"Content-Length: +3"), id="signed CL"),
        pytest.param(post(b"Content-Length: -3"), id="negative CL"),
        pytest.param(post(b"Content-Length: 0x3"), id="hex CL"),
        pytest.param(post(b"Content-Length: 3 3"), id="CL with a space"),
        pytest.param(post(b"Content-Length:"), id="empty CL"),
        pytest.param(post(b"Content-Length: 9" + b"9" * 30), id="CL beyond 64 bits"),
        pytest.param(post(b"Transfer-Encoding: gzip"), id="TE not chunked"),
        pytest.param(post(b"Transfer-Encoding: xchunked"), id="TE almost chunked"),
        pytest.param(post(b"Transfer-Encoding: chunked, gzip"), id="TE not chunked at the end"),
        pytest.param(post(b"Transfer-Encoding: chunked, chunked"), id="chunked twice"),
        pytest.param(
            post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), id="two TEs"
        ),
        pytest.param(
            b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="TE in 1.0"
        ),
        pytest.param(CHUNKED + b"g\r\n", id="chunk size is no number"),
        pytest.param(CHUNKED + b"0x3\r\nabc\r\n", id="chunk size with 0x"),
        pytest.param(CHUNKED + b"-3\r\nabc\r\n", id="negative chunk size"),
        pytest.param(CHUNKED + b"3 \r\nabc\r\n", id="space behind a chunk size"),
        pytest.param(CHUNKED + b"3\nabc\r\n", id="bare LF behind a chunk size"),
        pytest.param(CHUNKED + b"3;a\nb\r\nabc\r\n", id="bare LF in a chunk extension"),
        pytest.param(CHUNKED + b"3\r\nabcd\r\n", id="chunk longer than said"),
        pytest.param(CHUNKED + b"f" * 17 + b"\r\n", id="chunk size beyond 64 bits"),
        pytest.param(CHUNKED + b"\r\n", id="no chunk size"),
        pytest.param(CHUNKED + b"0\r\nContent-Length: 3\r\n\r\n", id="CL as a trailer"),
        pytest.param(b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", id="space in the target"),
        pytest.param(b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n", id="high byte in the target"),
        pytest.param(b"GET foo HTTP/1.1\r\nHost: a\r\n\r\n", id="target without a slash"),
        pytest.param(b"get / HTTP/1.1\r\nHost: a\r\n\r\n", id="method in lower case"),
        pytest.param(b"G\0T / HTTP/1.1\r\nHost: a\r\n\r\n", id="NUL in the method"),
        pytest.param(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", id="HTTP/1.2"),
        pytest.param(b"GET / HTTP/11\r\nHost: a\r\n\r\n", id="malformed version"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2 preface"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS hello"),
        pytest.param(
            get(b"Host: a", b"Connection: close") + get(b"Host: a"), id="more behind close"
        ),
        pytest.param(
            post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 3", body=b"abc"),
            id="a body beside Upgrade",
        ),
        pytest.param(
            post(b"Connection: Upgrade", b"Upgrade: h2c", b"Transfer-Encoding: chunked"),
            id="chunks beside Upgrade",
        ),
    ],
)
def test_malformed_is_400(text: bytes) -> None:
    assert refused(text) == "400"
    assert refused(*[bytes([byte]) for byte in text]) == "400"


@pytest.mark.parametrize("text", [b"GET /\r\n\r\n", b"GET / HTTP/0.9\r\n\r\n", get(version=b"2.0")])
def test_other_versions_are_505(text: bytes) -> None:
    assert refused(text) == "505"


def test_an_unknown_expectation_is_417_before_the_body() -> None:
    assert refused(post(b"Expect: 200-maybe", b"Content-Length: 3")) == "417"


def test_an_expectation_is_told_before_the_body() -> None:
    assert read(post(b"Expect: 100-Continue", b"Content-Length: 3")).expectations == 1


def test_http_1_0_has_no_expectations() -> None:
    taken = read(b"POST / HTTP/1.0\r\nExpect: anything\r\nContent-Length: 1\r\n\r\nx")
    assert (taken.expectations, len(taken.requests)) == (0, 1)


@pytest.mark.parametrize(
    ("text", "version", "keep"),
    [
        (get(b"Host: a"), "1.1", True),
        (get(b"Host: a", b"Connection: close"), "1.1", False),
        (get(b"Host: a", b"Connection: x, Close"), "1.1", False),
        (get(b"Host: a", b"Connection: keep-alive"), "1.1", True),
        (get(version=b"1.0"), "1.0", False),
        (get(b"Connection: keep-alive", version=b"1.0"), "1.0", True),
        (get(b"Host: a", b"Connection: Upgrade", b"Upgrade: websocket"), "1.1", False),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n\x16\x03\x01", "1.1", False),
    ],
)
def test_whether_another_request_may_follow(text: bytes, version: str, *, keep: bool) -> None:
    taken = read(text)
    assert (taken.versions, taken.kept) == ([version], [keep])


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        (b"/a?b", b"/a?b", b"sent"),
        (b"/http://x/", b"/http://x/", b"sent"),
        (b"http://other:8080/a?b=http://x", b"/a?b=http://x", b"other:8080"),
        (b"HTTP://other", b"/", b"other"),
        (b"http://other?q", b"/?q", b"other"),
        (b"http://other/x@y", b"/x@y", b"other"),
    ],
)
def test_absolute_form_names_the_host(target: bytes, path: bytes, host: bytes) -> None:
    request = one(get(b"Host: sent", target=target))
    assert (request.target, request.headers[b"host"]) == (path, host)


@pytest.mark.parametrize(
    "text",
    [
        get(b"Host: a", target=b"http://user:pw@other/x"),
        get(b"Host: a", target=b"http:///x"),
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\xff\r\n\r\n",
    ],
)
def test_what_is_no_host_is_refused(text: bytes) -> None:
    with pytest.raises(Refusal, match=r"malformed Host|no host"):
        read(text)


def test_asterisk_form() -> None:
    assert one(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").target == b"*"


def test_the_first_of_repeated_headers_counts_but_forwarded_for_is_joined() -> None:
    lines = (b"X-A: 1", b"x_a: 2", b"X-Forwarded-For: 1.1.1.1", b"x-forwarded-for: 2.2.2.2")
    headers = one(get(b"Host: a", *lines)).headers
    assert headers[b"x-a"] == b"1"
    assert headers[b"x-forwarded-for"] == b"1.1.1.1, 2.2.2.2"


def test_white_space_around_a_value_is_not_part_of_it() -> None:
    assert one(get(b"Host: a", b"X:  \t k e y \t ")).headers[b"x"] == b"k e y"


def test_trailers_are_not_headers() -> None:
    headers = one(CHUNKED + b"0\r\nX-Forwarded-For: 9.9.9.9\r\nHost: b\r\n\r\n").headers
    assert headers == {b"host": b"a", b"transfer-encoding": b"chunked"}


def test_a_body_is_kept_up_to_its_bound() -> None:
    body = bytes(range(100))
    assert one(post(b"Content-Length: 100", body=body)).body == body[:MAX_BODY]
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    assert one(CHUNKED + chunks).body == body[:MAX_BODY]
    exact = b"x" * MAX_BODY
    assert one(post(b"Content-Length: %d" % MAX_BODY, body=exact)).body == exact


def test_blank_lines_before_a_request_are_skipped() -> None:
    assert one(b"\r\n\r\n" + get(b"Host: a")).target == b"/"


def filler(size: int) -> bytes:
    return b"X: " + b"x" * size


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param((get(b"Host: a", filler(MAX_HEAD)),), id="one long header"),
        pytest.param((get(b"Host: a", target=b"/" + b"x" * MAX_HEAD),), id="long target"),
        pytest.param((b"GET /" + b"x" * MAX_HEAD,), id="target without an end"),
        pytest.param((get(b"Host: a", *[b"X: y"] * MAX_FIELDS),), id="too many equal headers"),
        pytest.param((get(b"Host: a", *[b"X: " + b"y" * 99] * 10),), id="equal long headers"),
        pytest.param(
            (get(b"Host: a", *[b"X-Forwarded-For: " + b"9" * 99] * 10),), id="long way here"
        ),
        pytest.param(
            (get(b"Host: a", filler(700))[:-2], filler(700) + b"\r\n\r\n"), id="in two reads"
        ),
        pytest.param(
            (get(b"Host: a", *[b"X%d:" % n for n in range(MAX_FIELDS)]),), id="too many headers"
        ),
        pytest.param((b"GET / HTTP/1.1\r\nX: ", *[b"x"] * (MAX_HEAD + 1)), id="value drips"),
        pytest.param((b"GET / HTTP/1.1\r\n", *[b"x"] * (MAX_HEAD + 1)), id="name drips"),
        pytest.param(
            (b"GET / HTTP/1.1\r\n", *[b"X: y\r\n"] * MAX_FIELDS, b"X: y\r\n\r\n"), id="lines drip"
        ),
        pytest.param((b"\r\n",) * MAX_HEAD, id="blank lines without an end"),
        pytest.param(
            (CHUNKED, b"1;x=", *[b"y"] * (MAX_HEAD + 1)), id="chunk extension without an end"
        ),
        pytest.param((CHUNKED, b"0\r\nX: ", *[b"y"] * (MAX_HEAD + 1)), id="trailer drips"),
        pytest.param((CHUNKED, b"0\r\n", *[b"X: y\r\n"] * (MAX_HEAD // 6 + 1)), id="trailers drip"),
    ],
)
def test_what_has_no_end_is_431(pieces: tuple[bytes, ...]) -> None:
    assert refused(*pieces) == "431"


def test_a_head_up_to_the_bounds_is_taken() -> None:
    line = filler(MAX_HEAD - len(b"/") - len(b"Hosta") - 4 - len(b"X") - 4)
    assert one(get(b"Host: a", line))
    assert refused(get(b"Host: a", line + b"x")) == "431"
    fields = get(b"Host: a", *[b"X:"] * (MAX_FIELDS - 1))
    assert one(fields)


@pytest.mark.parametrize("separator", [b"", b"\r\n"])
def test_what_is_kept_of_a_body_is_told_and_let_go_with_it(separator: bytes) -> None:
    taken = Taken()
    parser = reader(taken)
    text = post(b"Content-Length: 100", body=b"x" * 100)
    pieces = (text,) if separator else (text[:-60], text[-60:-40], text[-40:])
    for piece in pieces:
        parser.feed(piece)
    assert (taken.held, len(taken.requests[0].body), parser.kept) == (MAX_BODY, MAX_BODY, 0)


def test_progress_is_what_a_body_brought_since_the_last_look() -> None:
    parser = reader(Taken())
    parser.feed(b"POST / HTTP/1.1\r\nHost: a\r\n")
    assert parser.progress() == 0
    parser.feed(b"Content-Length: 100\r\n\r\n1234567890")
    assert (parser.progress(), parser.kept) == (10, 10)
    parser.feed(b"x" * 70)
    assert (parser.progress(), parser.progress(), parser.kept) == (70, 0, MAX_BODY)


def test_header_names_of_one_client_do_not_stay_remembered() -> None:
    for number in range(5000):
        canonical_name(b"X-%d" % number)
        canonical_name(b"X" * 100 + b"%d" % number)
    assert len(request_reader._canonical) <= 4096
    assert max(map(len, request_reader._canonical)) <= 64
    assert b"X-4999" in request_reader._canonical


def test_what_came_before_a_head_does_not_count_as_head() -> None:
    big = post(b"Content-Length: 5000", body=b"x" * 5000)
    taken = read(big + b"GET / HTTP/1.1\r\nHo", b"st: a\r\n\r\n")
    assert len(taken.requests) == 2


def test_many_small_requests_in_one_read() -> None:
    assert (
        len(read(get(b"Host: a") * 200 + b"GET / HT", b"TP/1.1\r\nHost: a\r\n\r\n").requests) == 201
    )


def test_a_refusal_of_the_taker_comes_out() -> None:
    class Full(Taken):
        def complete(self, inbound: Inbound, keep: bool, version: str, /) -> None:  # noqa: FBT001
            raise Refusal("400 Bad Request", f"{inbound.method} {keep} {version}")

    with pytest.raises(Refusal, match="GET True 1"):
        reader(Full()).feed(get(b"Host: a"))


def test_a_fault_of_the_taker_is_not_mistaken_for_a_refusal() -> None:
    class Faulty(Taken):
        def begun(self) -> None:
            raise LookupError("begun")

    with pytest.raises(LookupError, match="begun"):
        reader(Faulty()).feed(get(b"Host: a")[:9])


def test_many_different_names_are_all_canonical() -> None:
    for number in range(6000):
        assert canonical_name(b"X_Odd-%d" % number) == b"x-odd-%d" % number


# Whatever arrives, in whatever pieces.

TOKENS = st.sampled_from(
    [b"GET ", b"POST ", b"HEAD ", b"CONNECT ", b"/", b"/a?b#c", b"http://h/p", b"*", b" HTTP/1.1",
     b" HTTP/1.0", b" HTTP/2.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b": ", b":", b" ", b"\0",
     b"Host", b"Host: a\r\n", b"Content-Length: 3\r\n", b"Content-Length: ", b"0", b"3", b"ff",
     b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: Upgrade\r\n",
     b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n", b"abc", b";x=y", b"X-A", b"\xff",
     b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", CHUNKED, b"3\r\nabc\r\n", b"0\r\n\r\n"]
)  # fmt: skip
NEARLY_HTTP = st.lists(TOKENS | st.binary(max_size=8), max_size=24).map(b"".join)


Seen = tuple[str, bytes, dict[bytes, bytes], bytes]


def outcome(feed: Callable[[RequestReader], None]) -> tuple[list[Seen], str]:
    taken = Taken()
    status = ""
    try:
        feed(reader(taken))
    except Refusal as refusal:
        status = refusal.status
    seen = [(each.method, each.target, dict(each.headers), each.body) for each in taken.requests]
    return seen, status


@given(NEARLY_HTTP, st.lists(st.integers(1, 40), max_size=20))
def test_any_bytes_in_any_pieces_read_alike_and_only_refusals_come_out(
    data: bytes, sizes: list[int]
) -> None:
    def in_pieces(parser: RequestReader) -> None:
        rest = data
        for size in sizes:
            parser.feed(rest[:size])
            rest = rest[size:]
        parser.feed(rest)

    whole, whole_status = outcome(lambda parser: parser.feed(data))
    cut, cut_status = outcome(in_pieces)
    assert cut[: len(whole)] == whole
    if not any(method == "CONNECT" or b"upgrade" in headers for method, _, headers, _ in whole):
        assert (cut, cut_status) == (whole, whole_status)


def judged(data: bytes) -> tuple[str, bytes, bytes] | None:
    """Return method, target and body as h11 reads them; None if it sees no complete request."""
    judge = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    judge.receive_data(data)
    try:
        head = judge.next_event()
        if not isinstance(head, h11.Request):
            return None
        body = b""
        while isinstance(event := judge.next_event(), h11.Data):
            body += event.data
    except h11.RemoteProtocolError:
        return None
    if not isinstance(event, h11.EndOfMessage):
        return None
    return head.method.decode(), head.target, body


@example(CHUNKED + b"3\r\nabc\r\n0\r\n\r\n")
@example(get(b"Host: a", b"X: y"))
@given(NEARLY_HTTP)
def test_where_h11_reads_a_request_too_both_read_the_same(data: bytes) -> None:
    theirs = judged(data)
    ours, _ = outcome(lambda parser: parser.feed(data))
    if theirs is None or not ours:
        return  # either may be the stricter
    method, target, headers, body = ours[0]
    assert (method, body) == (theirs[0], theirs[2][:MAX_BODY])
    assert theirs[1] in {target, b"http://%b%b" % (headers[b"host"], target)}
