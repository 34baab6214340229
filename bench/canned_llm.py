"""An OpenAI-format upstream that costs little: `python -m bench.canned_llm PORT TOKENS SECONDS`.

A request with `"stream":true` gets TOKENS chunks of one token, one every SECONDS, each written on
its own, as a provider's server does; any other a whole answer. Usage is exact, and comes in
streams only if it was asked for. `GET /ledger` tells the tokens billed so far.
"""

import asyncio
import json
import sys
from collections.abc import Iterator

import uvloop

PROMPT_TOKENS = 57
COMPLETION_TOKENS = 24
"""Of a whole answer."""

_SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nOpenAI-Processing-Ms: 41\r\nX-Request-Id: req_1b2f0c\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_WORDS = (" the", " of", " stream", ",", " a", " token", "izer", " reads", " and", " budget")
_MARK_STREAM = b'"stream":true'
_MARK_USAGE = b'"include_usage":true'


def whole_answer() -> bytes:
    """Return the body of an answer that is not streamed."""
    text = "".join(_WORDS[n % len(_WORDS)] for n in range(COMPLETION_TOKENS))
    message: dict[str, object] = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return json.dumps(
        {
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
            "object": "chat.completion",
            "created": 1741569952,
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [choice],
            "usage": usage(COMPLETION_TOKENS),
            "service_tier": "default",
            "system_fingerprint": "fp_06737a9306",
        }
    ).encode()


def usage(completion: int) -> dict[str, object]:
    """Return the usage object that OpenAI sends."""
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion,
        "total_tokens": PROMPT_TOKENS + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def event(choices: list[dict[str, object]], reported: object = None) -> bytes:
    """Return one chunk of HTTP that holds one chunk of a chat completion."""
    value = {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": "chat.completion.chunk",
        "created": 1741569952,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_06737a9306",
        "choices": choices,
        "usage": reported,
    }
    return framed(b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n")


def framed(data: bytes) -> bytes:
    """Return a chunk of HTTP (RFC 9112 §7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def delta(text: str) -> bytes:
    """Return the event of one token."""
    return event(
        [{"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}]
    )


_EVENTS = [delta(word) for word in _WORDS]
_STOP = event([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}])
_DONE = framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"
_WHOLE = whole_answer()
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: req_1b2f0c\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_WHOLE), _WHOLE)
)


class Upstream:
    """What all connections share."""

    def __init__(self, tokens: int, pace: float) -> None:
        self.tokens = tokens
        self.pace = pace
        self.billed = 0


class Connection(asyncio.Protocol):
    """One connection; a request is answered before the next is read."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, _error: Exception | None) -> None:
        """Stop writing."""
        self._open = False

    def data_received(self, data: bytes) -> None:
        """Answer as soon as a request is complete."""
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if len(body) >= length:
            self._buffer = b""
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        upstream = self._upstream
        if head.startswith(b"GET /ledger"):
            text = b"%d" % upstream.billed
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
            )
        elif _MARK_STREAM in body.replace(b" ", b""):
            upstream.billed += PROMPT_TOKENS + upstream.tokens
            pieces = self._pieces(_MARK_USAGE in body.replace(b" ", b""))
            self._transport.write(_SSE_HEAD)
            self._next(pieces)
        else:
            upstream.billed += PROMPT_TOKENS + COMPLETION_TOKENS
            self._transport.write(_ANSWER)

    def _pieces(self, reports: bool) -> Iterator[bytes]:  # noqa: FBT001
        tokens = self._upstream.tokens
        for n in range(tokens):
            yield _EVENTS[n % len(_EVENTS)]
        last = _STOP + event([], usage(tokens)) if reports else _STOP
        yield last + _DONE

    def _next(self, pieces: Iterator[bytes]) -> None:
        piece = next(pieces, None)
        if piece is not None and self._open:
            self._transport.write(piece)
            self._loop.call_later(self._upstream.pace, self._next, pieces)


async def serve(port: int, tokens: int, pace: float) -> None:
    """Serve until killed."""
    upstream = Upstream(tokens, pace)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(upstream), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
