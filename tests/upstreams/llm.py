"""An LLM provider of our own: OpenAI, Anthropic and Gemini answers, with an exact ledger.

A request says by its headers what it gets, so that one server serves every test:
`X-Tokens` (completion tokens, 5), `X-Mode`:

    error  500 with a JSON body        hang   the request is read, nothing is answered
    gate   one event, then nothing     reset  one event, then the connection is cut
           until `gate` is set         bare   no usage is reported
    lie    a Content-Length that is    big    a body of 3 MB that is not JSON
           too long                    echo   the request's body comes back

Every token's text is four bytes, so that a byte counter and this ledger agree.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self

PROMPT = 7
WORD = "tok "


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
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)))
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def _run(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self._tasks.discard(task)
            writer.close()

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
        data = _json(request.body)
        stream = data.get("stream") is True or ":stream" in request.target
        if mode in {"error", "echo", "big"} or not stream:
            status, kind, body = _whole(request, mode, data)
            length = len(body) + (100 if mode == "lie" else 0)
            writer.write(
                f"HTTP/1.1 {status} Fine\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
                "X-Upstream: yes\r\nRateLimit-Limit: 1\r\n"
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
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        async for event, tokens in _events(request, mode, data):
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


def _tokens(request: Seen) -> int:
    return int(request.header("x-tokens") or 5)


def _whole(request: Seen, mode: str, data: dict[str, Any]) -> tuple[int, str, bytes]:
    if mode == "error":
        return 500, "application/json", b'{"error":{"message":"upstream broke"}}'
    if mode == "echo":
        return 200, "application/octet-stream", request.body
    if mode == "big":
        return 200, "application/octet-stream", b"x" * 3_000_000
    count = _tokens(request)
    request.billed = PROMPT + count
    text = WORD * count
    answer: dict[str, Any]
    if request.target.endswith("/messages"):
        answer = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": data.get("model"),
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn",
            "stop_sequence": None, "usage": {"input_tokens": PROMPT, "output_tokens": count},
        }  # fmt: skip
    elif "enerateContent" in request.target:
        answer = {
            "candidates": [{"content": {"parts": [{"text": text}], "role": "model"},
                            "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": PROMPT, "candidatesTokenCount": count,
                              "totalTokenCount": PROMPT + count},
        }  # fmt: skip
    elif request.target.endswith("/responses"):
        answer = {
            "id": "resp_1", "object": "response", "created_at": 1, "status": "completed",
            "model": data.get("model"), "output": [
                {"id": "m", "type": "message", "role": "assistant", "status": "completed",
                 "content": [{"type": "output_text", "text": text, "annotations": []}]}],
            "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
            "usage": {"input_tokens": PROMPT, "output_tokens": count,
                      "total_tokens": PROMPT + count,
                      "input_tokens_details": {"cached_tokens": 0},
                      "output_tokens_details": {"reasoning_tokens": 0}},
        }  # fmt: skip
    else:
        answer = {
            "id": "c", "object": "chat.completion", "created": 1, "model": data.get("model"),
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": PROMPT, "completion_tokens": count,
                      "total_tokens": PROMPT + count},
        }  # fmt: skip
    if mode == "bare":
        answer.pop("usage", answer.pop("usageMetadata", None))
    return 200, "application/json", json.dumps(answer).encode()


async def _events(
    request: Seen, mode: str, data: dict[str, Any]
) -> AsyncIterator[tuple[bytes, int]]:
    """Yield events with what each of them adds to the bill; the prompt comes with the first."""
    count = _tokens(request)
    if request.target.endswith("/messages"):
        source = _anthropic(count)
    elif "enerateContent" in request.target:
        source = _gemini(count, array="alt=sse" not in request.target)
    elif request.target.endswith("/responses"):
        source = _responses(count)
    else:
        options = data.get("stream_options")
        told = isinstance(options, dict) and options.get("include_usage") is True
        source = _chat(count, usage=told and mode != "bare")
    first = True
    for event, tokens in source:
        yield event, tokens + (PROMPT if first and tokens else 0)
        first = first and not tokens


Source = list[tuple[bytes, int]]


def _sse(value: object, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value)}\n\n".encode()


def _chat(count: int, *, usage: bool) -> Source:
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}

    def choice(delta: dict[str, str], finish: str | None = None) -> bytes:
        return _sse({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    events = [(choice({"content": WORD}), 1) for _ in range(count)]
    events.append((choice({}, "stop"), 0))
    if usage:
        counts = {"prompt_tokens": PROMPT, "completion_tokens": count,
                  "total_tokens": PROMPT + count}  # fmt: skip
        events.append((_sse({**base, "choices": [], "usage": counts}), 0))
    return [*events, (b"data: [DONE]\n\n", 0)]


def _responses(count: int) -> Source:
    events = [
        (_sse({"type": "response.output_text.delta", "item_id": "m", "output_index": 0,
               "content_index": 0, "sequence_number": n, "delta": WORD, "logprobs": []},
              "response.output_text.delta"), 1)
        for n in range(count)
    ]  # fmt: skip
    done = {
        "type": "response.completed", "sequence_number": count,
        "response": {"id": "r", "object": "response", "created_at": 1, "status": "completed",
                     "model": "m", "output": [], "parallel_tool_calls": True,
                     "tool_choice": "auto", "tools": [],
                     "usage": {"input_tokens": PROMPT, "output_tokens": count,
                               "total_tokens": PROMPT + count,
                               "input_tokens_details": {"cached_tokens": 0},
                               "output_tokens_details": {"reasoning_tokens": 0}}},
    }  # fmt: skip
    return [*events, (_sse(done, "response.completed"), 0)]


def _anthropic(count: int) -> Source:
    start = {
        "type": "message_start",
        "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
                    "content": [], "stop_reason": None, "stop_sequence": None,
                    "usage": {"input_tokens": PROMPT, "output_tokens": 0}},
    }  # fmt: skip
    block = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    delta = {"type": "content_block_delta", "index": 0,
             "delta": {"type": "text_delta", "text": WORD}}  # fmt: skip
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
           "usage": {"output_tokens": count}}  # fmt: skip
    return [
        (_sse(start, "message_start"), 0),
        (_sse(block, "content_block_start"), 0),
        *[(_sse(delta, "content_block_delta"), 1)] * count,
        (_sse({"type": "content_block_stop", "index": 0}, "content_block_stop"), 0),
        (_sse(end, "message_delta"), 0),
        (_sse({"type": "message_stop"}, "message_stop"), 0),
    ]


def _gemini(count: int, *, array: bool) -> Source:
    events: Source = []
    for n in range(1, count + 1):
        candidate: dict[str, Any] = {"content": {"parts": [{"text": WORD}], "role": "model"}}
        if n == count:
            candidate["finishReason"] = "STOP"
        chunk = {
            "candidates": [candidate],
            "usageMetadata": {"promptTokenCount": PROMPT, "candidatesTokenCount": n,
                              "totalTokenCount": PROMPT + n},
        }  # fmt: skip
        raw = json.dumps(chunk).encode()
        if array:
            events.append(((b"[" if n == 1 else b",\r\n") + raw, 1))
        else:
            events.append((b"data: " + raw + b"\r\n\r\n", 1))
    return [*events, (b"]", 0)] if array else events
