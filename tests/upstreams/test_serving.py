"""The upstreams' server leaves nothing behind, whatever its connections were at."""

import asyncio
import gc
import socket
import ssl
import threading
import warnings
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import wait_for
from tests.upstreams.certificates import secured
from tests.upstreams.serving import Serving

SECONDS = 20.0
TIMES = 20


class Talker:
    """Reads a line and does what it says."""

    def __init__(self) -> None:
        self.seen = 0
        self.released = threading.Event()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        self.seen += 1
        match line:
            case b"read\n":
                await reader.read()
            case b"write\n":
                while True:
                    writer.write(bytes(65_536))
                    await writer.drain()
            case b"sleep\n":
                await asyncio.sleep(3600)
            case b"leave\n":
                writer.write(b"x" * 1000)
            case b"wrong\n":
                raise LookupError("as it was asked to")


def leftovers() -> list[str]:
    """Return what the collector warns of."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        gc.collect()
    return [str(each.message) for each in told]


@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_open_connections(tmp_path: Path, way: str) -> None:
    leftovers()  # of others
    talker = Talker()
    path = tmp_path / "up" if way == "unix" else None
    serving = Serving(talker.talk, path=path)
    with ExitStack() as stack:
        for line in (b"", b"read\n", b"write\n", b"sleep\n", b"leave\n") * TIMES:
            family, where = socket.AF_INET, ("127.0.0.1", serving.port)
            sock = stack.enter_context(
                socket.socket(socket.AF_UNIX) if path else socket.socket(family)
            )
            sock.connect(str(path) if path else where)
            sock.sendall(line)
        wait_for(lambda: talker.seen == 4 * TIMES, SECONDS, "every line is read")
        serving.stop()
        assert leftovers() == []
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", serving.port or 1))


def test_handshakes_that_break_off(tmp_path: Path) -> None:
    leftovers()
    tls = secured(tmp_path, "localhost")
    talker = Talker()
    serving = Serving(talker.talk, tls=tls.server)
    stranger = ssl.create_default_context()
    with ExitStack() as stack:
        for _ in range(TIMES):
            where = ("127.0.0.1", serving.port)
            stack.enter_context(socket.create_connection(where))
            with socket.create_connection(where) as gone:
                gone.sendall(b"no handshake\n")
            with socket.create_connection(where) as other, suppress(ssl.SSLError):
                stranger.wrap_socket(other, server_hostname="localhost")
        serving.stop()
        assert leftovers() == []
        assert talker.seen == 0


def test_what_a_handler_raises_is_told_at_the_end() -> None:
    talker = Talker()
    serving = Serving(talker.talk)
    with socket.create_connection(("127.0.0.1", serving.port)) as sock:
        sock.sendall(b"wrong\n")
        assert sock.recv(1) == b""
    with pytest.raises(LookupError, match="as it was asked to"):
        serving.stop()
