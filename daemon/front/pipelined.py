"""Requests of one connection that wait for those before them (RFC 9112 §9.3.2)."""

from collections import deque
from typing import final

from daemon.front.inbound import Inbound
from daemon.front.refusal import too_many_waiting

Waiting = tuple[Inbound, bool, bytes]
"""A request, whether another may follow it, and the Connection line of its answer."""


@final
class Pipelined:
    """The line: at most so many requests, whose bodies take at most so many bytes.

    `size` is what their bodies take.
    """

    __slots__ = ("_max_bytes", "_max_requests", "_waiting", "size")

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._waiting: deque[Waiting] = deque()
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, waiting: Waiting) -> None:
        """Let a request wait.

        Raises:
            Refusal: too much waits already.
        """
        size = self.size + len(waiting[0].body)
        if len(self._waiting) >= self._max_requests or size > self._max_bytes:
            raise too_many_waiting()
        self.size = size
        self._waiting.append(waiting)

    def take(self) -> Waiting:
        """Return the request that has waited longest."""
        waiting = self._waiting.popleft()
        self.size -= len(waiting[0].body)
        return waiting
