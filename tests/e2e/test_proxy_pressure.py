"""Whoever does not read is not written to: neither side fills the daemon's memory (§10.1)."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PIECE = bytes(65_536)
PIECES = 2_000
TOTAL = PIECES * len(PIECE)
GROWTH = 32 * 1024 * 1024
BUNDLE = {"bundle_version": 1, "policies": []}


@contextmanager
def server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept one connection and let `talk` have it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                talk(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(20)
        assert not thread.is_alive()


def front_memory(daemon: Any) -> int:  # noqa: ANN401 - the fixture's
    [pid] = [pid for title, pid in daemon.pids().items() if title.startswith("front")]
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def stuck(sock: socket.socket, pieces: int) -> int:
    """Send until nothing more is taken; return how many bytes were."""
    sent = 0
    sock.settimeout(1.0)
    try:
        for _ in range(pieces):
            sent += sock.send(PIECE)
    except TimeoutError:
        pass
    sock.settimeout(20.0)
    return sent


def test_a_client_that_does_not_read(serve: Callable[..., Any]) -> None:
    sent: list[int] = []
    full = threading.Event()

    def talk(upstream: socket.socket) -> None:
        upstream.recv(65_536)
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % TOTAL)
        sent.append(stuck(upstream, PIECES))
        full.set()
        left = TOTAL - sent[0]
        while left:
            left -= upstream.send(PIECE[:left])

    with server(talk) as port:
        daemon = serve(BUNDLE, mode="reverse_proxy", backend_url=f"http://127.0.0.1:{port}")
        before = front_memory(daemon)
        with socket.create_connection(("127.0.0.1", daemon.port), 20) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert full.wait(20)
            assert sent[0] < TOTAL
            assert front_memory(daemon) - before < GROWTH
            received = 0
            while data := client.recv(1 << 20):
                received += len(data)
        assert TOTAL < received < TOTAL + 1000
        assert front_memory(daemon) - before < GROWTH


def test_an_upstream_that_does_not_read(serve: Callable[..., Any]) -> None:
    read_on = threading.Event()
    received: list[int] = []

    def talk(upstream: socket.socket) -> None:
        assert read_on.wait(20)
        count = 0
        while count < TOTAL:
            count += len(upstream.recv(1 << 20))
        received.append(count)
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with server(talk) as port:
        daemon = serve(
            BUNDLE,
            mode="reverse_proxy",
            backend_url=f"http://127.0.0.1:{port}",
            max_body_bytes=1_000_000,
        )
        before = front_memory(daemon)
        with socket.create_connection(("127.0.0.1", daemon.port), 20) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % TOTAL)
            sent = stuck(client, PIECES)
            assert sent < TOTAL
            assert front_memory(daemon) - before < GROWTH
            read_on.set()
            while sent < TOTAL:
                sent += client.send(PIECE[: TOTAL - sent])
            answer = b""
            while not answer.endswith(b"\r\n\r\nok"):
                data = client.recv(65_536)
                assert data
                answer += data
    assert received[0] >= TOTAL
