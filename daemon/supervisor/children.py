"""One child process at a time: start it, talk to it, notice its end, start it again (§13.3).

The supervisor owns the listening sockets, so a child that is killed is replaced on the same ones
and connections wait in the backlog meanwhile.
"""

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from protocol.frames import FrameReader, pack

FIRST_BACKOFF = 0.05
MAX_BACKOFF = 5.0
STEADY_SECONDS = 10.0
"""A child that lived this long is restarted without delay."""
_PR_SET_PDEATHSIG = 1

Hear = Callable[["Child", list[object]], None]


def next_backoff(backoff: float, lived: float) -> float:
    """Return the wait before the next start of a child that lived `lived` seconds."""
    if lived >= STEADY_SECONDS:
        return FIRST_BACKOFF
    return min(max(backoff * 2, FIRST_BACKOFF), MAX_BACKOFF)


class Child:
    """A front or shard that is meant to be running. `hear` gets its messages."""

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        fds: Sequence[int],
        hear: Hear,
        started: Callable[["Child"], None],
        ended: Callable[["Child", int], None],
    ) -> None:
        self.name = name
        self.ready = False
        self.prepared = 0
        self.switched = 0
        self.snapshot: object = None
        self._module = module
        self._arguments = tuple(arguments)
        self._fds = tuple(fds)
        self._hear = hear
        self._started = started
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._wanted = True
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The running process's id."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it, and start it again whenever it ends, until `release`."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    def tell(self, *message: object) -> None:
        """Send a message; a child that is just being replaced does not get it."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pack(message))

    def release(self) -> None:
        """Stop restarting it."""
        self._wanted = False

    async def gone(self) -> None:
        """Wait until it has ended for good (after `release`)."""
        if self._task is not None:
            await self._task

    def kill(self) -> None:
        """End it now."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = 0.0
        while self._wanted:
            born = loop.time()
            code = await self._run()
            self.ready = False
            self.prepared = self.switched = 0
            self._ended(self, code)
            if not self._wanted:
                break
            backoff = next_backoff(backoff, loop.time() - born)
            await asyncio.sleep(backoff)

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                self._module,
                *[part.format(control=theirs.fileno()) for part in self._arguments],
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *self._fds),
                preexec_fn=partial(_die_with, os.getpid()),
            )
        finally:
            theirs.close()
        ours.settimeout(0)
        transport, _ = await loop.create_unix_connection(partial(_Control, self), sock=ours)
        self._transport = transport
        self._started(self)
        code = await self._process.wait()
        self._transport = None
        transport.abort()
        self._process = None
        return code

    def heard(self, message: list[object]) -> None:
        """Pass on what the child says."""
        self._hear(self, message)


class _Control(asyncio.Protocol):
    """The child's end of the socket pair."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._reader = FrameReader()

    def data_received(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            self._child.heard(message)


def _die_with(parent: int) -> None:
    """Have the kernel end this child when the supervisor ends, however it ends (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
