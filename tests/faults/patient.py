"""An upstream that answers everything alike, whatever it is asked."""

import asyncio
import re
from typing import Self

from tests.upstreams.serving import Serving

BODY = (
    b'{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":7,"completion_tokens":1}}'
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)


class Patient:
    """A running upstream on a port of 127.0.0.1."""

    def __enter__(self) -> Self:
        self._serving = Serving(_talk)
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.stop()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._serving.port}"


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    buffer = b""
    while data := await reader.read(65_536):
        buffer += data
        while (end := _end(buffer)) >= 0:
            buffer = buffer[end:]
            writer.write(ANSWER)


def _end(buffer: bytes) -> int:
    """Return where the request ends, -1 if it has not yet."""
    head, found, rest = buffer.partition(b"\r\n\r\n")
    if not found:
        return -1
    start = len(head) + 4
    if CHUNKED.search(head + b"\r\n"):
        last = 0 if rest.startswith(b"0\r\n\r\n") else rest.find(b"\r\n0\r\n\r\n") + 2
        return start + last + 5 if last != 1 else -1
    length = LENGTH.search(head + b"\r\n")
    end = start + (int(length[1]) if length else 0)
    return end if len(buffer) >= end else -1
