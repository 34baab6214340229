"""A server for tests in a thread of its own, of which nothing is left when it stops.

asyncio's own servers forget connections: one that breaks off in its handshake, or that a handler
left open, is warned of when it is collected, which may be in any later test. So each connection is
taken, served and closed by one task here, and the tasks are waited for.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]
BACKLOG = 2048
SECONDS = 30.0
_LEFT = (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)
"""How a handler may hear that the other side has gone."""


class Serving:
    """Runs from its making to `stop`: on a port of 127.0.0.1, with `path` on a Unix socket.

    `talk` has a connection until it returns; whatever it raises, beside that the other side has
    gone, is raised by `stop`. It is not called where a handshake of `tls` fails.
    """

    def __init__(
        self, talk: Talk, *, path: Path | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._talk = talk
        self._tls = tls
        self._listener = _listener(path)
        self.port = 0 if path else int(self._listener.getsockname()[1])
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: set[asyncio.BaseTransport] = set()
        self._failures: list[BaseException] = []
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name="upstream")
        self._thread.start()

    def stop(self) -> None:
        """Break off every connection and wait until all are gone.

        Raises:
            BaseException: what `talk` raised first.
        """
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "a connection of the upstream does not end"
        if self._failures:
            raise self._failures[0]

    def _work(self) -> None:
        with closing(self._loop), self._listener:
            self._loop.run_until_complete(self._run())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())

    async def _run(self) -> None:
        self._loop.add_reader(self._listener, self._accept)
        await self._stop.wait()
        self._loop.remove_reader(self._listener)
        while self._tasks:
            for transport in tuple(self._transports):
                transport.abort()  # type: ignore[attr-defined]  # a stream's transport
            # Most notice by themselves; who waits for something else is told.
            _, deaf = await asyncio.wait(self._tasks, timeout=1.0)
            for task in deaf:
                task.cancel()

    def _accept(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)  # noqa: FBT003 - the standard library's
                task = self._loop.create_task(self._serve(sock))
                self._tasks.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failures.append(error)

    async def _serve(self, sock: socket.socket) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=self._tls
            )
        except OSError:
            return
        finally:
            # Its transport ends in the next turn, and asyncio has forgotten it.
            await asyncio.sleep(0)
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        self._transports.add(transport)
        try:
            with suppress(*_LEFT):
                await self._talk(reader, writer)
        finally:
            writer.close()
            with suppress(*_LEFT, TimeoutError):
                await writer.wait_closed()
            self._transports.discard(transport)


def _listener(path: Path | None) -> socket.socket:
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    listener.setblocking(False)  # noqa: FBT003 - the standard library's
    return listener
