"""A thousand streams on one front; a gigabyte through it does not fill its memory (§10.1)."""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

STREAMS = 1000
TOKENS = 6
PROMPT = 9
GIGABYTE = 1 << 30
MEGABYTE = 1 << 20
GROWTH = 16 * MEGABYTE
"""Twice what buffers on both sides of a connection may hold."""
SECONDS = 100


def bundle() -> dict[str, Any]:
    rule = {
        "name": "tokens",
        "limit_keys": ["ip:address"],
        "algorithm": "token_bucket_llm",
        "algorithm_config": {"tokens_per_minute": 10**9, "max_completion_tokens": 10**9},
    }
    spec = {"selector": {"pathPrefix": "/v1/"}, "rules": [rule]}
    return {"bundle_version": 1, "policies": [{"id": "llm", "spec": spec}]}


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(value: object) -> bytes:
    return chunked(b"data: " + json.dumps(value).encode() + b"\n\n")


def token(text: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


USAGE = {"prompt_tokens": PROMPT, "completion_tokens": TOKENS, "total_tokens": PROMPT + TOKENS}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
REST = (
    b"".join(token("tok ") for _ in range(TOKENS - 1))
    + event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    + event({"choices": [], "usage": USAGE})
    + chunked(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)
BODY = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"abcd"}]}'
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


def settled(daemon: Any) -> float:  # noqa: ANN401 - the fixture's
    with daemon.connect() as connection:
        text = connection.request("/metrics").body.decode()
    lines = [line for line in text.splitlines() if 'type="actual"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


class Upstream(asyncio.Protocol):
    """One connection. Every stream begins at once; none ends before all have begun."""

    everyone: list["Upstream"]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.read = b""

    def data_received(self, data: bytes) -> None:
        self.read += data
        if not self.read.endswith(BODY[-20:]):
            return
        self.transport.write(HEAD + token("tok "))
        self.everyone.append(self)
        if len(self.everyone) == STREAMS:
            for each in self.everyone:
                each.transport.write(REST)


async def read_stream(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    try:
        return await reader.readuntil(b"0\r\n\r\n")
    finally:
        writer.close()
        await writer.wait_closed()


def test_a_thousand_streams_on_one_front(
    serve: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    everyone: list[Upstream] = []
    Upstream.everyone = everyone
    listener = socket.create_server(("127.0.0.1", 0), backlog=STREAMS)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    daemon = serve(bundle(), mode="reverse_proxy", backend_url=url, llm_format="openai")

    async def run() -> list[bytes]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Upstream, sock=listener, backlog=STREAMS)
        reads = [asyncio.create_task(read_stream(daemon.port)) for _ in range(STREAMS)]
        answers = await asyncio.wait_for(asyncio.gather(*reads), SECONDS)
        server.close()
        for each in everyone:
            each.transport.abort()
        await asyncio.sleep(0)
        return answers

    answers = asyncio.run(run())
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.count(b'"content": "tok "') == TOKENS
        assert b"data: [DONE]" in answer
    expected = STREAMS * (PROMPT + TOKENS)
    wait_until(lambda: settled(daemon) == expected, 20.0, f"{expected} tokens settled")


@contextmanager
def gushing(head: bytes, piece: bytes, pieces: int, tail: bytes) -> Iterator[int]:
    """Answer one request with so many pieces as fast as they are taken; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(head)
                for _ in range(pieces):
                    connection.sendall(piece)
                connection.sendall(tail)
                connection.recv(1)

        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(SECONDS)
        assert not thread.is_alive()


class Memory:
    """The resident memory of a front, looked at whenever asked."""

    def __init__(self, daemon: Any) -> None:  # noqa: ANN401 - the fixture's
        [pid] = [pid for title, pid in daemon.pids().items() if title.startswith("front")]
        self._statm = Path(f"/proc/{pid}/statm")
        self.before = self.now()
        self.most = self.before

    def now(self) -> int:
        return int(self._statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def look(self) -> None:
        self.most = max(self.most, self.now())


PIECE = chunked(bytes(MEGABYTE))
EVENT = token("tok " * 16_384)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("target", "head", "piece", "size"),
    [
        pytest.param("/other", CHUNKED, PIECE, GIGABYTE, id="passed on"),
        pytest.param("/v1/chat/completions", HEAD, EVENT, GIGABYTE // 4, id="metered"),
    ],
)
def test_a_slow_reader_of_a_long_stream_does_not_fill_the_memory(
    serve: Callable[..., Any], target: str, head: bytes, piece: bytes, size: int
) -> None:
    last = chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    pieces = size // len(piece) + 1
    with gushing(head, piece, pieces, last) as port:
        daemon = serve(
            bundle(),
            mode="reverse_proxy",
            backend_url=f"http://127.0.0.1:{port}",
            llm_format="openai",
        )
        memory = Memory(daemon)
        received = 0
        with socket.create_connection(("127.0.0.1", daemon.port), SECONDS) as client:
            client.sendall(REQUEST.replace(b"/v1/chat/completions", target.encode()))
            ending, buffer = b"", bytearray(MEGABYTE)
            while not ending.endswith(b"0\r\n\r\n"):
                got = client.recv_into(buffer)
                assert got, f"ended after {received} bytes"
                ending = (ending + buffer[max(0, got - 5) : got])[-5:]
                if received // (64 * MEGABYTE) != (received + got) // (64 * MEGABYTE):
                    time.sleep(0.1)  # everything between the upstream and here fills up
                    memory.look()
                received += got
        memory.look()
    assert received > size
    assert memory.most - memory.before < GROWTH
