"""Byte sequences that servers are known to read in different ways (RFC 9112 §11.2).

Every target begins with `/@`, which becomes `/<name>:`, so that whoever sees a request knows which
entry it came from. `inner` is a request that must never be seen where the framing around it says
that it is a body, and is legitimate where the framing says that it is the next request.

`more_than` names a judge that refuses, or reads otherwise, what is read here, with the reason why
that is no danger: nobody who stands behind or before the daemon can be made to see a request that
the daemon did not see.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

INNER = b"GET /@inner HTTP/1.1\r\nHost: a\r\n\r\n"
_HOST = b"Host: a\r\n"


@dataclass(frozen=True)
class Entry:
    """One sequence of bytes on one connection."""

    name: str
    raw: bytes
    more_than: Mapping[str, str] = field(default_factory=dict)

    @property
    def sent(self) -> bytes:
        return self.raw.replace(b"/@", f"/{self.name}:".encode())


def post(
    *lines: bytes, body: bytes = b"", target: bytes = b"/@a", version: bytes = b"1.1"
) -> bytes:
    head = b"POST " + target + b" HTTP/" + version + b"\r\n" + _HOST
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def get(*lines: bytes) -> bytes:
    return b"GET /@a HTTP/1.1\r\n" + _HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def line(text: bytes) -> bytes:
    """Return a request with this request line."""
    return text + b"\r\n" + _HOST + b"\r\n"


CHUNKED = b"Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"
_SIZE = b"Content-Length: %d" % len(INNER)

_TAB = {"nginx": "a tab before a value is white space (RFC 9110 §5.6.3), which nginx does not take"}
_EMPTY_LINES = {"h11": "empty lines before a request are to be ignored (RFC 9112 §2.2)"}
_SPACES = {"h11": "several spaces part the words of a request line as one does (RFC 9112 §3)"}

_TE_VALUES = {
    "te-identity": b"Transfer-Encoding: identity",
    "te-xchunked": b"Transfer-Encoding: xchunked",
    "te-chunkedx": b"Transfer-Encoding: chunkedx",
    "te-upper": b"Transfer-Encoding: CHUNKED",
    "te-quoted": b'Transfer-Encoding: "chunked"',
    "te-twice-in-value": b"Transfer-Encoding: chunked, chunked",
    "te-chunked-identity": b"Transfer-Encoding: chunked, identity",
    "te-identity-chunked": b"Transfer-Encoding: identity, chunked",
    "te-gzip-chunked": b"Transfer-Encoding: gzip, chunked",
    "te-empty": b"Transfer-Encoding:",
    "te-comma": b"Transfer-Encoding: ,chunked",
    "te-param": b"Transfer-Encoding: chunked;q=1",
    "te-tab-before": b"Transfer-Encoding:\tchunked",
    "te-tab-behind": b"Transfer-Encoding: chunked\t",
    "te-vertical-tab": b"Transfer-Encoding: \x0bchunked",
    "te-form-feed": b"Transfer-Encoding: \x0cchunked",
    "te-nul": b"Transfer-Encoding: chunked\x00",
    "te-space-colon": b"Transfer-Encoding : chunked",
    "te-tab-colon": b"Transfer-Encoding\t: chunked",
    "te-space-name": b" Transfer-Encoding: chunked",
    "te-underscore": b"Transfer_Encoding: chunked",
    "te-folded": b"Transfer-Encoding:\r\n chunked",
    "te-bare-lf": b"X: y\nTransfer-Encoding: chunked",
    "te-bare-cr": b"X: y\rTransfer-Encoding: chunked",
    "te-no-colon": b"Transfer-Encoding chunked",
    "te-high-byte": b"Transfer-Encoding: chunked\xa0",
    "te-two-lines": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "te-two-differ": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "te-then-identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
}
_LENGTHS = {
    "plus": b"+%d",
    "minus": b"-%d",
    "zero-led": b"000%d",
    "hex": b"0x%x",
    "comma-same": b"%d, %d",
    "comma-other": b"%d, 0",
    "space-inside": b"%d 0",
    "fraction": b"%d.0",
    "exponent": b"%de0",
    "letters": b"%dx",
    "quoted": b'"%d"',
    "grouped": b"1_%d",
    "trailing-space": b"%d  ",
    "tab-before": b"\t%d",
    "nul": b"%d\x00",
    "vertical-tab": b"\x0b%d",
    "arabic": b"\xd9\xa3%d",
}


def _length(form: bytes) -> bytes:
    count = form.count(b"%d") + form.count(b"%x")
    return form % ((len(INNER),) * count)


ENTRIES = (
    # plain traffic, so that the comparison is known to compare
    Entry("plain-get", get()),
    Entry("plain-post", post(b"Content-Length: 5", body=b"hello")),
    Entry("plain-chunked", post(CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n")),
    Entry("pipelined", get() + post(b"Content-Length: 3", body=b"abc") + INNER),
    Entry("pipelined-chunked", post(CHUNKED, body=b"3\r\nabc\r\n" + LAST) + INNER),
    # a length and chunks
    Entry("cl-te", post(b"Content-Length: 6", CHUNKED, body=LAST + b"G")),
    Entry("cl-te-inner", post(b"Content-Length: 40", CHUNKED, body=LAST + INNER)),
    Entry("te-cl", post(CHUNKED, b"Content-Length: 4", body=b"22\r\n" + INNER + b"\r\n" + LAST)),
    Entry("te-cl-zero", post(CHUNKED, b"Content-Length: 0", body=LAST + INNER)),
    Entry("cl-te-get", get(_SIZE, CHUNKED) + LAST + INNER),
    *(
        Entry(name, post(text, body=LAST + INNER), _TAB if name == "te-tab-before" else {})
        for name, text in _TE_VALUES.items()
    ),
    *(Entry(f"{name}-cl", post(text, _SIZE, body=INNER)) for name, text in _TE_VALUES.items()),
    Entry("te-1.0", post(CHUNKED, body=LAST + INNER, version=b"1.0")),
    Entry("te-1.0-with-cl", post(CHUNKED, _SIZE, body=INNER, version=b"1.0")),
    # lengths
    Entry("cl-twice-same", post(_SIZE, _SIZE, body=INNER)),
    Entry("cl-twice-other", post(_SIZE, b"Content-Length: 0", body=INNER)),
    Entry("cl-twice-case", post(_SIZE, b"content-length: 0", body=INNER)),
    Entry("cl-underscore", post(b"Content_Length: %d" % len(INNER), body=INNER)),
    Entry("cl-underscore-both", post(_SIZE, b"Content_Length: 0", body=INNER)),
    Entry("cl-space-colon", post(b"Content-Length : %d" % len(INNER), body=INNER)),
    Entry("cl-folded", post(b"Content-Length:\r\n %d" % len(INNER), body=INNER)),
    Entry("cl-empty", post(b"Content-Length:", body=INNER)),
    Entry("cl-overflow-64", post(b"Content-Length: 18446744073709551616", body=INNER)),
    Entry("cl-overflow-63", post(b"Content-Length: 9223372036854775808", body=INNER)),
    Entry(
        "cl-long",
        post(b"Content-Length: " + b"0" * 40 + b"%d" % len(INNER), body=INNER),
        {"h11": "any number of digits is a length (RFC 9110 §8.6); upstreams get it written anew"},
    ),
    *(
        Entry(
            f"cl-{name}",
            post(b"Content-Length: " + _length(form), body=INNER),
            _TAB if name == "tab-before" else {},
        )
        for name, form in _LENGTHS.items()
    ),
    Entry("cl-get-body", get(_SIZE) + INNER),
    Entry("cl-short", post(b"Content-Length: 3", body=INNER)),
    Entry("cl-missing", post(body=INNER)),
    # chunks
    Entry("chunk-ext", post(CHUNKED, body=b"5;a=b\r\nhello\r\n" + LAST + INNER)),
    Entry("chunk-ext-quoted", post(CHUNKED, body=b'5;a="\r\n"\r\nhello\r\n' + LAST + INNER)),
    Entry("chunk-ext-lf", post(CHUNKED, body=b"5;a\nhello\r\n" + LAST + INNER)),
    Entry("chunk-ext-cr", post(CHUNKED, body=b"5;a\rb\r\nhello\r\n" + LAST + INNER)),
    Entry("chunk-ext-blank", post(CHUNKED, body=b"5 ;a=b\r\nhello\r\n" + LAST + INNER)),
    Entry("chunk-overflow", post(CHUNKED, body=b"10000000000000005\r\nhello\r\n" + LAST + INNER)),
    Entry("chunk-overflow-32", post(CHUNKED, body=b"100000005\r\nhello\r\n" + LAST + INNER)),
    Entry("chunk-many-zeros", post(CHUNKED, body=b"0" * 17 + b"5\r\nhello\r\n" + LAST + INNER)),
    Entry("chunk-negative", post(CHUNKED, body=b"-5\r\nhello\r\n" + LAST + INNER)),
    Entry("chunk-plus", post(CHUNKED, body=b"+5\r\nhello\r\n" + LAST + INNER)),
    Entry("chunk-0x", post(CHUNKED, body=b"0x5\r\nhello\r\n" + LAST + INNER)),
    Entry("chunk-underscore", post(CHUNKED, body=b"0_5\r\nhello\r\n" + LAST + INNER)),
    Entry("chunk-space-before", post(CHUNKED, body=b" 5\r\nhello\r\n" + LAST + INNER)),
    Entry("chunk-space-behind", post(CHUNKED, body=b"5 \r\nhello\r\n" + LAST + INNER)),
    Entry("chunk-tab-behind", post(CHUNKED, body=b"5\t\r\nhello\r\n" + LAST + INNER)),
    Entry("chunk-empty-size", post(CHUNKED, body=b"\r\nhello\r\n" + LAST + INNER)),
    Entry("chunk-bare-lf", post(CHUNKED, body=b"5\nhello\n0\n\n" + INNER)),
    Entry("chunk-size-lf", post(CHUNKED, body=b"5\nhello\r\n" + LAST + INNER)),
    Entry("chunk-size-cr", post(CHUNKED, body=b"5\rhello\r\n" + LAST + INNER)),
    Entry("chunk-size-lf-last", post(CHUNKED, body=b"5\r\nhello\r\n0\n\n" + INNER)),
    Entry("chunk-no-end", post(CHUNKED, body=b"5\r\nhello" + LAST + INNER)),
    Entry("chunk-lf-end", post(CHUNKED, body=b"5\r\nhello\n" + LAST + INNER)),
    Entry("chunk-two-byte-end", post(CHUNKED, body=b"5\r\nhelloXX" + LAST + INNER)),
    Entry("chunk-longer", post(CHUNKED, body=b"4\r\nhello\r\n" + LAST + INNER)),
    Entry("chunk-inner", post(CHUNKED, body=b"%x\r\n" % len(INNER) + INNER + b"\r\n" + LAST)),
    Entry("chunk-last-inner", post(CHUNKED, body=b"0\r\n" + INNER)),
    Entry("chunk-upper", post(CHUNKED, body=b"A\r\nhellohello\r\n" + LAST + INNER)),
    Entry("chunk-cut", post(CHUNKED, body=b"ff\r\n" + INNER)),
    # trailers
    Entry("trailer", post(CHUNKED, body=b"0\r\nX: y\r\n\r\n" + INNER)),
    Entry("trailer-cl", post(CHUNKED, body=b"0\r\n" + _SIZE + b"\r\n\r\n" + INNER)),
    Entry("trailer-te", post(CHUNKED, body=b"0\r\n" + CHUNKED + b"\r\n\r\n" + LAST + INNER)),
    Entry("trailer-lf", post(CHUNKED, body=b"0\r\nX: y\n\n" + INNER)),
    Entry("trailer-bad", post(CHUNKED, body=b"0\r\nX y\r\n\r\n" + INNER)),
    Entry("trailer-space-colon", post(CHUNKED, body=b"0\r\nX : y\r\n\r\n" + INNER)),
    Entry("trailer-folded", post(CHUNKED, body=b"0\r\nX: y\r\n z\r\n\r\n" + INNER)),
    # line ends and odd bytes
    Entry("lf-lines", b"GET /@a HTTP/1.1\nHost: a\n\n" + INNER),
    Entry("lf-end", b"GET /@a HTTP/1.1\r\nHost: a\r\n\n" + INNER),
    Entry("cr-lines", b"GET /@a HTTP/1.1\rHost: a\r\r" + INNER),
    Entry("cr-cr-lf", b"GET /@a HTTP/1.1\r\r\nHost: a\r\n\r\n" + INNER),
    Entry("cr-end", b"GET /@a HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n" + INNER),
    Entry("lf-in-value", get(b"X: a\n" + INNER[:-4])),
    Entry("cr-in-value", get(b"X: a\rY: b")),
    Entry("nul-in-value", get(b"X: a\0b")),
    Entry("nul-in-name", get(b"X\0: b")),
    Entry("nul-in-target", line(b"GET /@a\0b HTTP/1.1")),
    Entry("high-in-name", get(b"X\xe9: b")),
    Entry("high-in-value", get(b"X: \xe9"), {}),
    Entry("control-in-value", get(b"X: a\x01b")),
    Entry("del-in-value", get(b"X: a\x7fb")),
    Entry("fold", get(b"X: a\r\n b")),
    Entry("fold-tab", get(b"X: a\r\n\tb")),
    Entry("fold-first", b"GET /@a HTTP/1.1\r\n Host: a\r\n\r\n" + INNER),
    Entry("fold-empty", get(b"X: a\r\n ")),
    Entry("space-colon", get(b"X : b")),
    Entry("no-name", get(b": b")),
    Entry("no-colon", get(b"X")),
    Entry("name-space", get(b"X Y: b")),
    Entry("name-paren", get(b"X(: b")),
    Entry("name-slash", get(b"X/Y: b")),
    Entry("empty-value", get(b"X:")),
    Entry("empty-lines-first", b"\r\n\r\n" + INNER, _EMPTY_LINES),
    Entry("lf-first", b"\n" + INNER, _EMPTY_LINES),
    Entry("space-first", b" " + INNER),
    Entry("nul-first", b"\0" + INNER),
    # request lines
    Entry("http-0.9", b"GET /@a\r\n"),
    Entry("http-0.9-inner", b"GET /@a\r\n\r\n" + INNER),
    Entry("http-0.9-said", line(b"GET /@a HTTP/0.9")),
    Entry("http-1.2", line(b"GET /@a HTTP/1.2")),
    Entry("http-1.10", line(b"GET /@a HTTP/1.10")),
    Entry("http-01.1", line(b"GET /@a HTTP/01.1")),
    Entry("http-2.0", line(b"GET /@a HTTP/2.0")),
    Entry("http-lower", line(b"GET /@a http/1.1")),
    Entry("http-none", line(b"GET /@a HTTP/")),
    Entry("http-word", line(b"GET /@a ICY/1.1")),
    Entry("http-space", line(b"GET /@a HTTP /1.1")),
    Entry("two-spaces", line(b"GET  /@a HTTP/1.1"), _SPACES),
    Entry("two-spaces-behind", line(b"GET /@a  HTTP/1.1"), _SPACES),
    Entry("tab", line(b"GET\t/@a\tHTTP/1.1")),
    Entry("trailing-space", line(b"GET /@a HTTP/1.1 ")),
    Entry("space-in-target", line(b"GET /@a b HTTP/1.1")),
    Entry("space-version-in-target", line(b"GET /@a HTTP/1.1 HTTP/1.1")),
    Entry("tab-in-target", line(b"GET /@a\tb HTTP/1.1")),
    Entry("high-in-target", line(b"GET /@a\xe9 HTTP/1.1")),
    Entry("control-in-target", line(b"GET /@a\x01 HTTP/1.1")),
    Entry("fragment", line(b"GET /@a#b HTTP/1.1")),
    Entry("method-lower", line(b"get /@a HTTP/1.1")),
    Entry("method-unknown", line(b"SMUGGLE /@a HTTP/1.1")),
    Entry("method-odd", line(b"G(T /@a HTTP/1.1")),
    Entry("method-none", line(b" /@a HTTP/1.1")),
    Entry("target-none", line(b"GET  HTTP/1.1")),
    Entry("target-word", line(b"GET @a HTTP/1.1")),
    Entry("no-version-space", line(b"GET /@aHTTP/1.1")),
    # where it goes
    Entry("absolute", line(b"GET http://a/@a HTTP/1.1")),
    Entry("absolute-other", line(b"GET http://other/@a HTTP/1.1")),
    Entry("absolute-user", line(b"GET http://u:p@other/@a HTTP/1.1")),
    Entry("absolute-scheme", line(b"GET gopher://other/@a HTTP/1.1")),
    Entry("absolute-bare", line(b"GET http://other?/@a HTTP/1.1")),
    Entry("absolute-odd", line(b"GET http:///@a HTTP/1.1")),
    Entry("connect", line(b"CONNECT other:443 HTTP/1.1") + INNER),
    Entry("connect-path", line(b"CONNECT /@a HTTP/1.1") + INNER),
    Entry("host-twice", get(b"Host: b")),
    Entry("host-none", b"GET /@a HTTP/1.1\r\n\r\n" + INNER),
    Entry(
        "host-empty",
        b"GET /@a HTTP/1.1\r\nHost:\r\n\r\n" + INNER,
        {"nginx": "a target without an authority has an empty Host (RFC 9112 §3.2)"},
    ),
    Entry("host-list", b"GET /@a HTTP/1.1\r\nHost: a, b\r\n\r\n" + INNER),
    Entry("host-space", b"GET /@a HTTP/1.1\r\nHost: a b\r\n\r\n" + INNER),
    Entry("host-slash", b"GET /@a HTTP/1.1\r\nHost: a/b\r\n\r\n" + INNER),
    Entry("host-at", b"GET /@a HTTP/1.1\r\nHost: a@b\r\n\r\n" + INNER),
    Entry("host-1.0", b"GET /@a HTTP/1.0\r\n\r\n" + INNER),
    # connections
    Entry("close-leftover", get(b"Connection: close") + INNER),
    Entry("http-1.0-leftover", b"GET /@a HTTP/1.0\r\nHost: a\r\n\r\n" + INNER),
    Entry(
        "http-1.0-alive",
        b"GET /@a HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n" + INNER,
        {"h11": "h11 ends every connection of HTTP/1.0; the client asked to keep this one"},
    ),
    Entry("connection-cl", post(_SIZE, b"Connection: Content-Length", body=INNER)),
    Entry("connection-te", post(CHUNKED, b"Connection: Transfer-Encoding", body=LAST + INNER)),
    Entry("upgrade-h2c", get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c",
                             b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA") + INNER),
    Entry("upgrade-websocket", get(b"Connection: Upgrade", b"Upgrade: websocket") + INNER),
    Entry("upgrade-cl", post(b"Connection: Upgrade", b"Upgrade: h2c", _SIZE, body=INNER)),
    Entry("upgrade-te", post(b"Connection: Upgrade", b"Upgrade: h2c", CHUNKED, body=LAST + INNER)),
    Entry("upgrade-unnamed", get(b"Upgrade: h2c") + INNER),
    Entry("h2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + INNER),
    Entry("expect", post(_SIZE, b"Expect: 100-continue", body=INNER)),
    Entry("expect-other", post(_SIZE, b"Expect: 100-continued", body=INNER)),
    Entry("expect-empty", post(_SIZE, b"Expect:", body=INNER)),
    Entry("expect-chunked", post(CHUNKED, b"Expect: 100-continue", body=LAST + INNER)),
    Entry("expect-get", get(b"Expect: 100-continue") + INNER),
    Entry("tls-hello", bytes.fromhex("160301020001000 1fc0303".replace(" ", "")) + INNER),
)  # fmt: skip
