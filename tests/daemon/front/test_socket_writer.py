"""Bytes leave at once, in order and in full, whatever the socket takes of them."""

import socket
from collections.abc import Iterator

import pytest

from daemon.front.socket_writer import SocketWriter


class Transport:
    """Keeps what it is given until it is flushed."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.held = b""

    def write(self, data: bytes) -> None:
        self.held += data

    def get_write_buffer_size(self) -> int:
        return len(self.held)

    def flush(self) -> None:
        while self.held:
            try:
                self.held = self.held[self.sock.send(self.held) :]
            except BlockingIOError:
                return


@pytest.fixture(name="pair")
def _pair() -> Iterator[tuple[Transport, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        theirs.settimeout(0)
        yield Transport(ours), theirs


def read(sock: socket.socket) -> bytes:
    came = b""
    while True:
        try:
            more = sock.recv(1 << 20)
        except BlockingIOError:
            return came
        if not more:
            return came
        came += more


def test_what_the_socket_takes_leaves_at_once(pair: tuple[Transport, socket.socket]) -> None:
    transport, theirs = pair
    out = SocketWriter(transport, transport.sock.fileno())  # type: ignore[arg-type]
    out.write(b"one")
    out.write(b"two")
    assert read(theirs) == b"onetwo"
    assert transport.held == b""
    assert not out.waiting


def test_what_waits_goes_first(pair: tuple[Transport, socket.socket]) -> None:
    transport, theirs = pair
    out = SocketWriter(transport, transport.sock.fileno())  # type: ignore[arg-type]
    out.queue(b"one")
    out.write(b"two")
    assert out.waiting
    assert transport.held == b"onetwo"
    transport.flush()
    assert not out.waiting
    out.write(b"three")
    assert transport.held == b""
    assert read(theirs) == b"onetwothree"


def test_a_slow_reader_gets_everything_in_order(pair: tuple[Transport, socket.socket]) -> None:
    transport, theirs = pair
    out = SocketWriter(transport, transport.sock.fileno())  # type: ignore[arg-type]
    pieces = [bytes([number]) * 30_000 for number in range(40)]
    for piece in pieces:
        out.write(piece)
    assert out.waiting
    came = b""
    while out.waiting or len(came) < sum(map(len, pieces)):
        came += read(theirs)
        transport.flush()
    assert came == b"".join(pieces)


def test_a_socket_that_is_gone_is_for_the_transport(pair: tuple[Transport, socket.socket]) -> None:
    transport, theirs = pair
    out = SocketWriter(transport, transport.sock.fileno())  # type: ignore[arg-type]
    theirs.close()
    out.write(b"one")
    assert transport.held == b"one"


def test_only_the_transport_writes_without_a_descriptor(
    pair: tuple[Transport, socket.socket],
) -> None:
    transport, theirs = pair
    out = SocketWriter(transport, -1)  # type: ignore[arg-type]
    out.write(b"one")
    assert transport.held == b"one"
    assert read(theirs) == b""
