"""Bytes out of one socket, at once as long as it takes them.

A transport would wait for the end of the loop's turn: what dies in between has been charged and not
answered, and its queue costs more than a system call where turns are short.
"""

import asyncio
import os
from typing import Final

_write: Final = os.write


class SocketWriter:
    """Writes to the socket of a transport. `fd` is negative where only the transport may write."""

    __slots__ = ("_fd", "_queued", "_transport")

    def __init__(self, transport: asyncio.Transport, fd: int) -> None:
        self._transport = transport
        self._fd = fd
        self._queued = False
        """Whether the transport has been given something, and may still hold it."""

    @property
    def waiting(self) -> bool:
        """Whether something waits until the other side reads."""
        self._queued = self._queued and self._transport.get_write_buffer_size() > 0
        return self._queued

    def write(self, data: bytes) -> None:
        """Write at once, behind what waits already."""
        if self._fd >= 0 and not (self._queued and self.waiting):
            try:
                sent = _write(self._fd, data)
            except OSError:  # full, or gone: the transport finds out
                sent = 0
            if sent == len(data):
                return
            if sent:
                data = data[sent:]
        self.queue(data)

    def queue(self, data: bytes) -> None:
        """Leave it to the transport, which copies nothing."""
        self._queued = True
        self._transport.write(data)
