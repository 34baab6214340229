"""An LLM provider without a network: OpenAI, Anthropic and Gemini answers with exact usage.

Usage: upstream.py [--listen HOST:PORT|unix:PATH] [--words-per-second N] [--background PID]

A token is a word, so its bills can be checked by eye. An answer has 40 words, or as many as the
prompt asks for ("in 120 words"), unless the request's maximum cuts it short. Streams come word by
word. `GET /ledger` says what was produced and which keys came with the requests.

`--background PID` returns once it listens, and serves until process PID ends. Needs nothing but the
standard library.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from upstream_formats import NotAnswerableError, read_task

MAX_BODY = 16 << 20
KEY_HEADERS = ("authorization", "x-api-key", "x-goog-api-key")


@dataclass(slots=True)
class Ledger:
    """What the provider would bill, and for whom."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    keys: set[str] = field(default_factory=set)

    def text(self) -> bytes:
        """Return it as JSON."""
        counts = {
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "keys": sorted(self.keys),
        }
        return json.dumps(counts).encode() + b"\n"


class Provider:
    """Answers connections until it is told to stop."""

    def __init__(self, words_per_second: float) -> None:
        self._pause = 1 / words_per_second
        self._ledger = Ledger()
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, listener: socket.socket, until: int | None) -> None:
        """Serve `listener` until a signal, or until process `until` ends."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        if until is not None:
            loop.add_reader(until, stop.set)
        server = await asyncio.start_server(self._connection, sock=listener, limit=1 << 16)
        await stop.wait()
        server.close()
        for connection in self._open:
            connection.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        if me is None:
            return
        self._open.add(me)
        try:
            with suppress(
                ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError
            ):
                while True:
                    await self._request(reader, writer)
        except asyncio.CancelledError:
            pass  # the provider stops
        finally:
            self._open.discard(me)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        pairs = (line.partition(":")[::2] for line in head[1:-2])
        headers = {name.lower(): value.strip() for name, value in pairs}
        body = await read_body(reader, headers)
        if method == "GET" and target in {"/ledger", "/readyz"}:
            await answer(writer, 200, self._ledger.text())
            return
        self._ledger.keys.update(headers[name] for name in KEY_HEADERS if name in headers)
        try:
            wanted, whole, events = read_task(target, body)
        except NotAnswerableError as error:
            status, message = error.args
            await answer(writer, status, json.dumps({"error": {"message": message}}).encode())
            return
        self._ledger.requests += 1
        self._ledger.prompt_tokens += wanted.prompt
        if not wanted.stream:
            self._ledger.completion_tokens += len(wanted.words)
            await answer(writer, 200, json.dumps(whole(wanted)).encode())
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for data, tokens in events(wanted):
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
            self._ledger.completion_tokens += tokens
            if tokens:
                await asyncio.sleep(self._pause)
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """Read a request's body.

    Raises:
        ValueError: its size is no number, or too big.
    """
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(bounded(int(headers.get("content-length", "0"))))
    pieces: list[bytes] = []
    total = 0
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        total = bounded(total + size)
        pieces.append((await reader.readexactly(size + 2))[:-2])
    await reader.readuntil(b"\r\n")
    return b"".join(pieces)


def bounded(size: int) -> int:
    """Return a size that is not too big to hold.

    Raises:
        ValueError: it is, or is negative.
    """
    if not 0 <= size <= MAX_BODY:
        raise ValueError(size)
    return size


async def answer(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    """Send a whole JSON answer."""
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}"
    )
    writer.write(head.encode() + b"\r\n\r\n" + body)
    await writer.drain()


def listen(where: str) -> socket.socket:
    """Return a listening socket at `HOST:PORT` or `unix:PATH`."""
    if where.startswith("unix:"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(where.removeprefix("unix:"))
        listener.listen(128)
        return listener
    host, _, port = where.rpartition(":")
    return socket.create_server((host, int(port)), backlog=128)


def detach() -> bool:
    """Fork; return whether this is the child, in a session that Ctrl-C does not reach."""
    if os.fork():
        return False
    os.setsid()
    return True


def main() -> None:
    """Listen, say where, and serve."""
    parser = argparse.ArgumentParser(description="An LLM provider without a network.")
    parser.add_argument("--listen", default="127.0.0.1:9000", help="HOST:PORT or unix:PATH")
    parser.add_argument("--words-per-second", type=float, default=400.0, help="of each stream")
    parser.add_argument("--background", type=int, metavar="PID", help="serve until PID ends")
    options = parser.parse_args()
    try:
        until = None if options.background is None else os.pidfd_open(options.background)
        listener = listen(options.listen)
    except (OSError, ValueError) as error:
        sys.exit(f"upstream.py: cannot serve at {options.listen}: {error}")
    if until is not None and not detach():
        return
    if until is None:
        place = options.listen
        if not place.startswith("unix:"):
            place = "http://{}:{}".format(*listener.getsockname()[:2])
        print(f"offline LLM provider on {place}", flush=True)
    try:
        asyncio.run(Provider(options.words_per_second).serve(listener, until))
    finally:
        if options.listen.startswith("unix:"):
            Path(options.listen.removeprefix("unix:")).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
