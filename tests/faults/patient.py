"""An upstream that answers everything alike, whatever it is asked."""

import asyncio
import re
import threading
from typing import Self

BODY = (
    b'{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":7,"completion_tokens":1}}'
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport

    def end(self) -> None:
        """Let go of the client."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._end()) >= 0:
            self._buffer = self._buffer[end:]
            self._transport.write(ANSWER)

    def _end(self) -> int:
        """Return where the request ends, -1 if it has not yet."""
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return -1
        start = len(head) + 4
        if CHUNKED.search(head + b"\r\n"):
            last = 0 if rest.startswith(b"0\r\n\r\n") else rest.find(b"\r\n0\r\n\r\n") + 2
            return start + last + 5 if last != 1 else -1
        length = LENGTH.search(head + b"\r\n")
        end = start + (int(length[1]) if length else 0)
        return end if len(self._buffer) >= end else -1


class Patient:
    """A running upstream on a port of 127.0.0.1."""

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)))
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._port}"

    async def _run(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        connections: list[_Connection] = []

        def connection() -> _Connection:
            connections.append(_Connection())
            return connections[-1]

        server = await self._loop.create_server(connection, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()
        for each in connections:
            each.end()
        await asyncio.sleep(0)  # for the transports to end
