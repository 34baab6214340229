"""A provider that fails on demand, with a ledger of what it has produced.

`X-Plan` says what a request gets, `X-Completion` how many completion tokens (5), `X-Id` the name
under which the ledger keeps it:

    (none)     the whole answer or stream      error      500 and a JSON body
    hang       nothing, ever                   refuse     the connection is cut at once
    stall      a stream without its end        reset      a stream cut in its middle
    short      half of the promised bytes      bare       an answer without usage
    text       an answer that is not JSON      big        an answer of 2 MB
    gzip, br   the answer so coded             old        HTTP/1.0, ended by the connection
    early      100 and 103 before it           heads      a head of 100 kB
    garbage    no HTTP                         half       half an answer, then nothing
    bill       402 with usage                  drip       byte by byte

Nothing is produced for a side that has left; what was on the wire when it left (the kernel knows:
nobody acknowledged it) is struck out of the ledger again. Every token's text is four bytes.
"""

import asyncio
import fcntl
import gzip
import json
import os
import select
import ssl
import termios
import threading
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.upstreams.serving import Serving

PROMPT = 7
WORD = "tok "


@dataclass
class Entry:
    """What one request got: tokens produced, and whether all was written."""

    id: str
    prompt: int = 0
    completion: int = 0
    complete: bool = False

    @property
    def total(self) -> int:
        """Tokens billed."""
        return self.prompt + self.completion


@dataclass
class Faulty:
    """A running provider: over TCP, TLS with `tls`, or a Unix socket at `path`."""

    tls: ssl.SSLContext | None = None
    path: Path | None = None
    port: int = 0
    ledger: list[Entry] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    left: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    gate: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._serving = Serving(self._serve, path=self.path, tls=self.tls)
        self.port = self._serving.port
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._serving.stop()

    @property
    def url(self) -> str:
        """Where it is."""
        if self.path is not None:
            return f"unix:{self.path}"
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def entries(self) -> dict[str, Entry]:
        """Return the ledger by name."""
        return {entry.id: entry for entry in self.ledger}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(os.dup(writer.get_extra_info("socket").fileno()))
        try:
            while await self._one(reader, writer, wire):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.release()
        finally:
            wire.close()

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: "Wire"
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heads.append(head)
        lines = head.split("\r\n")
        target = lines[0].split(" ")[1]
        pairs = (line.split(": ", 1) for line in lines[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        self.arrived.release()
        body = await _body(reader, headers)
        entry = Entry(headers.get("x-id", ""))
        self.ledger.append(entry)
        wire.begin(entry)
        plan = headers.get("x-plan", "")
        if plan == "gate":
            await asyncio.to_thread(self.gate.wait, 30)
        if plan in {"hang", "refuse"}:
            if plan == "hang":
                await reader.read()
                self.left.release()
            writer.transport.abort()
            return False
        answer = Answer(entry, target, _json(body), int(headers.get("x-completion", "5")), plan)
        pieces = answer.pieces()
        prompt = PROMPT if any(count for _, count in pieces) else 0
        for piece, completion in pieces:
            if wire.gone:
                self.left.release()
                writer.transport.abort()
                return False
            writer.write(piece)
            entry.prompt = prompt
            wire.wrote(len(piece), completion)
            await writer.drain()
            if plan == "drip":
                await asyncio.sleep(0)
        if plan in {"stall", "half"}:
            await reader.read()
            self.left.release()
        if plan == "reset":
            writer.transport.abort()
        entry.complete = answer.complete
        return answer.kept


class Wire:
    """One connection as the kernel sees it; `fd` is its own."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._entry = Entry("")
        self._sent = 0
        self._pieces: list[tuple[int, int]] = []

    def begin(self, entry: Entry) -> None:
        """Write for another entry of the ledger."""
        self._entry = entry
        self._pieces = []

    def wrote(self, size: int, completion: int) -> None:
        """Note what was written and produced."""
        self._sent += size
        self._pieces.append((self._sent, completion))
        self._entry.completion += completion

    @property
    def gone(self) -> bool:
        """Whether the other side has left by now."""
        poll = select.poll()
        poll.register(self._fd, select.POLLRDHUP)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Strike out what a side that has left did not take."""
        if self.gone:
            count = array("i", [0])
            fcntl.ioctl(self._fd, termios.TIOCOUTQ, count)
            arrived = self._sent - count[0]
            self._entry.completion -= sum(n for end, n in self._pieces if end > arrived)
        os.close(self._fd)


@dataclass
class Answer:
    """One answer in the making: its pieces of bytes, each with the tokens that it produces."""

    entry: Entry
    target: str
    data: dict[str, Any]
    tokens: int
    plan: str

    @property
    def streams(self) -> bool:
        """Whether events were asked for."""
        return self.data.get("stream") is True or ":stream" in self.target

    @property
    def complete(self) -> bool:
        """Whether the plan comes to a good end."""
        return self.plan not in {"stall", "half", "short", "reset", "garbage", "heads"}

    @property
    def kept(self) -> bool:
        """Whether the connection can be used again."""
        return self.complete and self.plan != "old"

    def pieces(self) -> list[tuple[bytes, int]]:
        """Return the bytes to write, each with the completion tokens that they hold."""
        if self.plan == "garbage":
            return [(b"SSH-2.0-x\r\n\r\n", 0)]
        if self.plan == "heads":
            return [(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", 0)]
        if self.streams and self.plan not in {"error", "text", "big", "bill"}:
            return self._stream()
        return self._whole()

    def _whole(self) -> list[tuple[bytes, int]]:
        status, kind, body = 200, "application/json", json.dumps(self._document()).encode()
        count = self.tokens
        match self.plan:
            case "error":
                status, body, count = 500, b'{"error":{"message":"upstream broke"}}', 0
            case "bill":
                status = 402
            case "text":
                kind, body = "text/plain", b"tok tok"
            case "big":
                body = b'{"text":"' + b"x" * 2_000_000 + b'"}'
        coding = self.plan if self.plan in {"gzip", "br"} else ""
        if coding == "gzip":
            body = gzip.compress(body, mtime=0)
        elif coding == "br":
            body = b"\x0b\x02\x80" + body
        length = f"Content-Length: {len(body)}\r\n"
        if self.plan in {"short", "half"}:
            body = body[: len(body) // 2]
        if self.plan == "old":
            length = ""
        head = self._head(status, kind, length, coding)
        if self.plan == "drip":
            return [
                (head, 0),
                (body[:1], count),
                *((body[n : n + 1], 0) for n in range(1, len(body))),
            ]
        return [(head + body, count)]

    def _stream(self) -> list[tuple[bytes, int]]:
        is_array = "enerateContent" in self.target and "alt=sse" not in self.target
        kind = "application/json" if is_array else "text/event-stream"
        events = self._events(is_array=is_array)
        if self.plan in {"stall", "half", "reset", "short"}:
            events = [event for event in events if event[1]][: self.tokens]
        coding = self.plan if self.plan in {"gzip", "br"} else ""
        if coding == "gzip":
            whole = b"".join(event for event, _ in events)
            coded = gzip.compress(whole, mtime=0)
            events = [(coded[:20], 0), (coded[20:], self.tokens)]
        elif coding == "br":
            events = [(b"\x0b\x02\x80" + event, count) for event, count in events]
        old = self.plan == "old"
        framing = "" if old else "Transfer-Encoding: chunked\r\n"
        pieces = [(self._head(200, kind, framing, coding), 0)]
        for event, count in events:
            if old:
                pieces.append((event, count))
                continue
            framed = b"%x\r\n%b\r\n" % (len(event), event)
            if self.plan == "drip":
                pieces += [
                    (framed[n : n + 9], count if n == 0 else 0) for n in range(0, len(framed), 9)
                ]
            else:
                pieces.append((framed, count))
        if not old and self.plan not in {"stall", "half", "reset", "short"}:
            pieces.append((b"0\r\n\r\n", 0))
        return pieces

    def _head(self, status: int, kind: str, framing: str, coding: str) -> bytes:
        early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
        version = "1.0" if self.plan == "old" else "1.1"
        return (
            f"{early if self.plan == 'early' else ''}"
            f"HTTP/{version} {status} Fine\r\nContent-Type: {kind}\r\n{framing}"
            f"{f'Content-Encoding: {coding}' + chr(13) + chr(10) if coding else ''}"
            "X-Fairvisor-Debug-Policy: forged\r\n\r\n"
        ).encode()

    def _document(self) -> dict[str, Any]:
        count, text = self.tokens, WORD * self.tokens
        value: dict[str, Any]
        if self.target.endswith("/messages"):
            value = {"type": "message", "content": [{"type": "text", "text": text}],
                     "usage": {"input_tokens": PROMPT, "output_tokens": count}}  # fmt: skip
        elif "enerateContent" in self.target:
            value = {"candidates": [{"content": {"parts": [{"text": text}]}}],
                     "usageMetadata": _gemini(count)}  # fmt: skip
        elif self.target.endswith("/responses"):
            value = {"object": "response", "output": [{"text": text}], "usage": _responses(count)}
        else:
            value = {"choices": [{"message": {"content": text}}], "usage": _chat(count)}
        if self.plan == "bare":
            value.pop("usage", value.pop("usageMetadata", None))
        return value

    def _events(self, *, is_array: bool) -> list[tuple[bytes, int]]:
        numbers = range(1, self.tokens + 1)
        told = self.plan != "bare"
        if self.target.endswith("/messages"):
            usage = {"input_tokens": PROMPT, "output_tokens": 0}
            delta = {"type": "content_block_delta", "index": 0,
                     "delta": {"type": "text_delta", "text": WORD}}  # fmt: skip
            start = _sse({"type": "message_start", "message": {"usage": usage if told else {}}})
            ends = [{"type": "message_delta", "delta": {"stop_reason": "end_turn"},
                     "usage": {"output_tokens": self.tokens} if told else {}},
                    {"type": "message_stop"}]  # fmt: skip
            # The prompt is told with the first token, so that a stream that stops has told it.
            deltas = [(start + _sse(delta) if n == 1 else _sse(delta), 1) for n in numbers]
            return [*deltas, *((_sse(end), 0) for end in ends)]
        if "enerateContent" in self.target:
            chunks = []
            for n in numbers:
                chunk: dict[str, Any] = {"candidates": [{"content": {"parts": [{"text": WORD}]}}]}
                if n == self.tokens:
                    chunk["candidates"][0]["finishReason"] = "STOP"
                if told:
                    chunk["usageMetadata"] = _gemini(n)
                raw = json.dumps(chunk).encode()
                text = (b"[" if n == 1 else b",") + raw if is_array else b"data: " + raw + b"\n\n"
                chunks.append((text, 1))
            return [*chunks, (b"]", 0)] if is_array else chunks
        if self.target.endswith("/responses"):
            delta = {"type": "response.output_text.delta", "delta": WORD}
            done = {"type": "response.completed",
                    "response": {"usage": _responses(self.tokens) if told else None}}  # fmt: skip
            return [*((_sse(delta), 1) for _ in numbers), (_sse(done), 0)]
        events = [(_sse({"choices": [{"delta": {"content": WORD}}]}), 1) for _ in numbers]
        events.append((_sse({"choices": [{"delta": {}, "finish_reason": "stop"}]}), 0))
        if told and (self.data.get("stream_options") or {}).get("include_usage"):
            events.append((_sse({"choices": [], "usage": _chat(self.tokens)}), 0))
        return [*events, (b"data: [DONE]\n\n", 0)]


def _sse(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _chat(count: int) -> dict[str, int]:
    return {"prompt_tokens": PROMPT, "completion_tokens": count, "total_tokens": PROMPT + count}


def _responses(count: int) -> dict[str, int]:
    return {"input_tokens": PROMPT, "output_tokens": count, "total_tokens": PROMPT + count}


def _gemini(count: int) -> dict[str, int]:
    return {"promptTokenCount": PROMPT, "candidatesTokenCount": count,
            "totalTokenCount": PROMPT + count}  # fmt: skip


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        pieces = []
        while size := int(await reader.readline(), 16):
            pieces.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readexactly(2)
        return b"".join(pieces)
    return await reader.readexactly(int(headers.get("content-length", "0")))


def _json(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
