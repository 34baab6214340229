"""Requests gone wrong: valid ones, mutated by the bytes and tokens that parsers trip over."""

import random
from collections.abc import Iterator

_CHAT = (
    b'{"model":"gpt-4o-mini","max_tokens":5,"stream":false,'
    b'"messages":[{"role":"user","content":"h\\u00e9llo \\ud83d\\ude00"}]}'
)
_SETTLE = b'{"reservation":"AAAAAAAAAAAAAAAAAAAAAA.0","usage":{"total_tokens":7}}'
_NATIVE = (
    b"GET /v1/decision HTTP/1.1\r\nHost: edge.test\r\nX-Original-Method: GET\r\n"
    b"X-Original-URI: /a/b;c?x=1&y=%2f\r\nX-Forwarded-For: 192.0.2.1, 198.51.100.7\r\n"
    b"X-API-Key: k1\r\nAuthorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0.AAAA\r\n"
    b"User-Agent: curl/8\r\nCookie: a=b; c=d\r\n\r\n"
)


def _post(target: bytes, body: bytes, *lines: bytes) -> bytes:
    head = (b"POST %b HTTP/1.1" % target, b"Host: edge.test", *lines)
    return b"\r\n".join((*head, b"Content-Length: %d" % len(body), b"", body))


SEEDS = (
    _NATIVE,
    _NATIVE.replace(b"GET /v1/decision ", b"POST /v1/decision/extra?q=1 ").replace(
        b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello"
    ),
    _post(b"/v1/settle", _SETTLE, b"Content-Type: application/json"),
    _post(b"/openai/v1/chat/completions", _CHAT, b"Authorization: Bearer sk-x"),
    b"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    b"Expect: 100-continue\r\n\r\n" + b"%x\r\n%b\r\n0\r\n\r\n" % (len(_CHAT), _CHAT),
    b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    b"HEAD /v1/decision HTTP/1.0\r\n\r\n",
    b"GET http://edge.test/v1/decision?x HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    _NATIVE + _NATIVE + b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
)
_TOKENS = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"\x80", b"\xff\xfe", b"%00",
    b"%", b"//", b"/../", b"\r\n\r\n", b"0\r\n\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity, chunked\r\n", b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: 0x5\r\n", b"Host: b\r\n", b"Connection: close, upgrade\r\n",
    b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n", b"X-Original-URI: \r\n", b" folded\r\n",
    b'Forwarded: for="[::1]:5"\r\n', b"X-Forwarded-For: ::1%eth0, ,999.1.1.1\r\n",
    b"X_Forwarded_For: 1.2.3.4\r\n", b"HTTP/1.1", b"HTTP/9.9", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01", b"FFFFFFFF\r\n", b"-5\r\n", b'1;x="\r\n', b"[" * 200,
    b'"\\ud800"', b"1e999", b"NaN", b"A" * 3000, b"x" * 40_000, b"X-A: b\r\n" * 150,
)  # fmt: skip


def blobs(seed: int) -> Iterator[bytes]:
    """Return request after request, never the end; the same for the same seed."""
    rng = random.Random(seed)
    while True:
        blob = rng.choice(SEEDS)
        # One in ten is whole, so that the rest is told from a daemon that refuses everything.
        for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 2, 3, 5, 8))):
            blob = _mutated(blob, rng)
        yield blob


def _mutated(blob: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(blob) + 1)
    rest = blob[at:]
    match rng.randrange(8):
        case 0:
            rest = b""
        case 1:
            rest = rng.randbytes(rng.randrange(1, 5)) + rest[1:]
        case 2 | 3:
            rest = rng.choice(_TOKENS) + rest
        case 4:  # at the end of a line, where whole fields belong
            line = rest.find(b"\r\n") + 2
            rest = rest[:line] + rng.choice(_TOKENS) + rest[line:]
        case 5:
            rest = rest[rng.randrange(1, 30) :]
        case 6:
            other = rng.choice(SEEDS)
            rest = other[rng.randrange(len(other)) :]
        case _:  # a line twice
            line = rest.find(b"\r\n") + 2
            rest = rest[:line] + rest[:line] + rest[line:]
    return blob[:at] + rest
