"""An LLM provider of our own: OpenAI, Anthropic and Gemini answers, with an exact ledger.

A request says by its headers what it gets, so that one server serves every test:
`X-Tokens` (completion tokens, 5), `X-Cached` (prompt tokens from a cache, 0), `X-Server`
(an OpenAI-compatible server's ways, see `compatible_format`), `X-Mode`:

    error  500 with a JSON body        hang   the request is read, nothing is answered
    gate   one event, then nothing     reset  one event, then the connection is cut
           until `gate` is set         bare   no usage is reported
    lie    a Content-Length that is    big    a body of 3 MB that is not JSON
           too long                    echo   the request's body comes back

What it answers follows from the request: tools are called, pictures are paid for, and so on.
Every token's text is four bytes, so that a byte counter and this ledger agree.
"""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from tests.upstreams import (
    anthropic_format,
    compatible_format,
    gemini_format,
    openai_format,
    responses_format,
)
from tests.upstreams.asked import Asked, Source
from tests.upstreams.serving import Serving

_HEADERS = (
    "X-Upstream: yes\r\nx-request-id: req_1\r\nrequest-id: req_1\r\n"
    "openai-processing-ms: 12\r\nx-ratelimit-remaining-tokens: 149984\r\n"
)
"""Fields of vendors' answers that have nothing to do with the proxy's."""


@dataclass
class Seen:
    """One request as it arrived, and what it was billed."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    billed: int = 0
    complete: bool = False

    def header(self, name: str) -> str:
        """Return a header's first value, "" without one."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


@dataclass
class Upstream:
    """A running provider. `gone` is set when a client leaves before its answer is complete."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Event = field(default_factory=threading.Event)
    connections: int = 0

    def __enter__(self) -> Self:
        self._serving = Serving(self._serve)
        self.port = self._serving.port
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._serving.stop()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = lines[0].split(" ")
        pairs = (line.split(": ", 1) for line in lines[1:])
        request = Seen(method, target, [(name, value) for name, value in pairs], b"")
        request.body = await _body(reader, request)
        self.seen.append(request)
        self.arrived.set()
        mode = request.header("x-mode")
        if mode == "hang":
            assert await reader.read() == b""  # the other side gives up
            self.gone.set()
            return False
        return await self._answer(request, mode, reader, writer)

    async def _answer(
        self, request: Seen, mode: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        asked = _asked(request, mode)
        if mode in {"error", "echo", "big"} or not asked.stream:
            status, kind, body = _whole(request, mode, asked)
            length = len(body) + (100 if mode == "lie" else 0)
            writer.write(
                f"HTTP/1.1 {status} Fine\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
                f"{_HEADERS}RateLimit-Limit: 1\r\n"
                "X-Fairvisor-Reservation: forged\r\n\r\n".encode()
            )
            if request.method != "HEAD":
                writer.write(body)
            await writer.drain()
            request.complete = mode != "lie"
            return mode != "lie"
        array = "enerateContent" in request.target and "alt=sse" not in request.target
        kind = "application/json" if array else "text/event-stream; charset=utf-8"
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n"
            f"{_HEADERS}Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        for event, tokens in _events(asked):
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            request.billed += tokens
            if not tokens:
                continue
            if mode == "reset":
                writer.transport.abort()
                return False
            if mode == "gate" and not await self._gated(reader):
                self.gone.set()
                return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        request.complete = True
        return True

    async def _gated(self, reader: asyncio.StreamReader) -> bool:
        """Wait for the gate; False if the other side leaves before."""
        gate = asyncio.ensure_future(asyncio.to_thread(self.gate.wait, 20))
        left = asyncio.ensure_future(reader.read(1))
        await asyncio.wait({gate, left}, return_when=asyncio.FIRST_COMPLETED)
        if left.done():
            return False
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        return True


async def _body(reader: asyncio.StreamReader, request: Seen) -> bytes:
    if request.header("transfer-encoding") == "chunked":
        pieces = []
        while size := int(await reader.readline(), 16):
            pieces.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readexactly(2)
        return b"".join(pieces)
    return await reader.readexactly(int(request.header("content-length") or 0))


def _json(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _asked(request: Seen, mode: str) -> Asked:
    return Asked(
        _json(request.body),
        request.target,
        count=int(request.header("x-tokens") or 5),
        cached=int(request.header("x-cached") or 0),
        bare=mode == "bare",
        server=request.header("x-server"),
    )


Whole = Callable[[Asked], tuple[dict[str, Any], int]]

_FORMATS: tuple[tuple[str, Whole, Callable[[Asked], Source] | None], ...] = (
    ("/count_tokens", anthropic_format.counted, None),
    ("/messages", anthropic_format.message, anthropic_format.message_events),
    (":countTokens", gemini_format.counted, None),
    (":batchEmbedContents", gemini_format.embeddings, None),
    (":generateContent", gemini_format.content, None),
    (":streamGenerateContent", gemini_format.content, gemini_format.content_events),
    ("/responses", responses_format.response, responses_format.response_events),
    ("/embeddings", openai_format.embeddings, None),
    ("/chat/completions", openai_format.chat, compatible_format.chat_events),
    ("/completions", openai_format.completion, openai_format.completion_events),
    ("", openai_format.chat, openai_format.chat_events),
)


def _format(asked: Asked) -> tuple[Whole, Callable[[Asked], Source] | None]:
    return next(each[1:] for each in _FORMATS if asked.path.endswith(each[0]))


def _whole(request: Seen, mode: str, asked: Asked) -> tuple[int, str, bytes]:
    if mode == "error":
        return 500, "application/json", b'{"error":{"message":"upstream broke"}}'
    if mode == "echo":
        return 200, "application/octet-stream", request.body
    if mode == "big":
        return 200, "application/octet-stream", b"x" * 3_000_000
    answer, request.billed = _format(asked)[0](asked)
    if asked.bare:
        answer.pop("usage", answer.pop("usageMetadata", None))
    return 200, "application/json", json.dumps(answer).encode()


def _events(asked: Asked) -> Source:
    """Return events with what each of them adds to the bill; the prompt comes with the first."""
    stream = _format(asked)[1]
    events = stream(asked) if stream else []
    first = next((n for n, (_, tokens) in enumerate(events) if tokens), None)
    if first is not None:
        event, tokens = events[first]
        events[first] = (event, tokens + asked.prompt)
    return events
