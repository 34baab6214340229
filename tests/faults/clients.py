"""Many clients in one thread: each asks, waits for its answer, asks again, and keeps the books.

A request ends in one of three ways: answered with a status, or its connection broke while it was
waited for (`broken`), or it could not be sent at all, which is tried again and counts for nothing.
"""

import errno
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Where = Callable[[], tuple[str, int] | None]
"""Where to connect to now; None while there is nowhere."""
RETRY_SECONDS = 0.02
READ_BYTES = 65_536
REFUSED = {errno.ECONNREFUSED, errno.ECONNRESET, errno.EADDRNOTAVAIL}


@dataclass
class Books:
    """What the clients saw. `longest` is the longest wait for an answer, in seconds."""

    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    longest: float = 0.0
    failure: BaseException | None = None

    @property
    def answered(self) -> int:
        """Requests that were answered 200."""
        return self.statuses[200]


class _Client:
    __slots__ = ("asked", "buffer", "connected", "due", "sock", "turn")

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self.connected = False
        self.asked = 0.0
        self.buffer = b""
        self.due = 0.0
        self.turn = 0


class Clients:
    """The loop. `requests` are sent one after the other by every client, round and round."""

    def __init__(self, where: Where, requests: list[bytes], count: int) -> None:
        self.books = Books()
        self._where = where
        self._requests = requests
        self._clients = [_Client() for _ in range(count)]
        for number, client in enumerate(self._clients):
            client.turn = number
        self._selector = selectors.DefaultSelector()
        self._stop = threading.Event()

    def run(self) -> None:
        """Ask until told to stop; then wait for the answers that are owed."""
        try:
            while not self._stop.is_set():
                self._turn(ask=True)
            deadline = time.monotonic() + 30
            while any(each.asked for each in self._clients):
                assert time.monotonic() < deadline, "an answer is owed and does not come"
                self._turn(ask=False)
        except BaseException as error:  # noqa: BLE001 - the test's thread is to raise it
            self.books.failure = error
        finally:
            for client in self._clients:
                self._leave(client)
            self._selector.close()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()

    def _turn(self, *, ask: bool) -> None:
        now = time.monotonic()
        if ask:
            for client in self._clients:
                if client.sock is None and client.due <= now:
                    self._connect(client, now)
        for key, _ in self._selector.select(0.05):
            self._read(key.data, ask=ask)

    def _connect(self, client: _Client, now: float) -> None:
        client.due = now + RETRY_SECONDS
        address = self._where()
        if address is None:
            return
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.settimeout(5)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(0)
        except OSError:
            sock.close()
            return
        client.sock, client.buffer = sock, b""
        self._selector.register(sock, selectors.EVENT_READ, client)
        self._ask(client)

    def _ask(self, client: _Client) -> None:
        assert client.sock is not None
        request = self._requests[client.turn % len(self._requests)]
        client.turn += 1
        client.asked = time.monotonic()
        try:
            sent = client.sock.send(request)
        except OSError:
            client.asked = 0.0  # not a byte of it has left
            self._leave(client)
        else:
            assert sent == len(request), "a request does not fit into a socket"

    def _read(self, client: _Client, *, ask: bool) -> None:
        assert client.sock is not None
        try:
            data = client.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            if client.asked:
                self.books.broken += 1
                client.asked = 0.0
            self._leave(client)
            return
        client.buffer += data
        status = _status(client.buffer)
        if status is None:
            return
        self.books.statuses[status] += 1
        self.books.longest = max(self.books.longest, time.monotonic() - client.asked)
        client.asked, client.buffer = 0.0, b""
        if ask:
            self._ask(client)

    def _leave(self, client: _Client) -> None:
        if client.sock is not None:
            self._selector.unregister(client.sock)
            client.sock.close()
            client.sock = None


def _status(buffer: bytes) -> int | None:
    """Return the status of a whole answer, None if more is to come."""
    head, end, body = buffer.partition(b"\r\n\r\n")
    if not end:
        return None
    length = 0
    for line in head.split(b"\r\n")[1:]:
        if line[:15].lower() == b"content-length:":
            length = int(line[15:])
    if len(body) < length:
        return None
    assert len(body) == length, f"more than was asked for: {buffer!r}"
    return int(head[9:12])


@contextmanager
def asking(where: Where, requests: list[bytes], count: int) -> Iterator[Books]:
    """Have `count` clients ask for as long as this lasts; raise what went wrong in their thread."""
    clients = Clients(where, requests, count)
    thread = threading.Thread(target=clients.run, name="clients")
    thread.start()
    try:
        yield clients.books
    finally:
        clients.stop()
        thread.join()
    if clients.books.failure is not None:
        raise clients.books.failure
