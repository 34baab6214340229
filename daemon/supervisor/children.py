"""One child process at a time: start it, talk to it, notice its end, start it again (§13.3).

The supervisor owns the listening sockets, so a child that is killed is replaced on the same ones
and connections wait in the backlog meanwhile. A child that never once got ready is not started for
ever: after `MAX_FALSE_STARTS` the cause does not go away by itself.
"""

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from daemon.settings import without_secrets
from daemon.supervisor.adopted import AdoptedProcess
from daemon.supervisor.endings import Endings, how_it_ended
from protocol.frames import FrameError, FrameReader, pack

MAX_FALSE_STARTS = 5
_HANG_UP_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


class Parent(Protocol):
    """Whoever has children."""

    def started(self, child: "Child") -> None:
        """Equip a child that was just started."""

    def hear(self, child: "Child", message: list[object]) -> None:
        """Take what a child says."""

    def ended(self, child: "Child", how: str) -> None:
        """Hear how a child ended; it is started again after a wait."""

    def hopeless(self, child: "Child", why: str) -> None:
        """Hear that a child will not be started again."""


class Child:
    """A front, shard or keeper that is meant to be running.

    `ready` is set by whoever hears that it is (`serves`); `proven`: whether it ever was.
    `at_our_end` is the signal that it gets from the kernel when the supervisor is gone.
    """

    def __init__(  # noqa: PLR0913 - what to run, with what, for whom
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        fds: Sequence[int],
        parent: Parent,
        at_our_end: int = signal.SIGKILL,
    ) -> None:
        self.name = name
        self.ready = False
        self.proven = False
        self.prepared = 0
        self.switched = 0
        self.retired = False
        self.snapshot: object = None
        self.last_words = ""
        """Why it ended, if it could still say so."""
        self.endings = Endings()
        self.born = self.since = asyncio.get_running_loop().time()
        """When it was started, and when it became ready or ceased to be."""
        self._module = module
        self._arguments = tuple(arguments)
        self._fds = tuple(fds)
        self._parent = parent
        self._at_our_end = at_our_end
        self._control: _Control | None = None
        self._transport: asyncio.Transport | None = None
        self._process: asyncio.subprocess.Process | AdoptedProcess | None = None
        self._adopted: tuple[socket.socket, AdoptedProcess, bytes] | None = None
        self._released = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def kind(self) -> str:
        """What it is: front, envoy, shard or keeper."""
        return self.name.replace(",", " ").partition(" ")[0]

    @property
    def pid(self) -> int | None:
        """The running process's id."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it, and start it again whenever it ends, until `release`."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    def adopt(self, process: AdoptedProcess, control: socket.socket, heard: bytes) -> None:
        """Take over a process that runs already, until it ends; nothing is started again."""
        self._adopted = control, process, heard
        self.ready = True
        self._task = asyncio.get_running_loop().create_task(self._keep())

    @property
    def hung_up(self) -> bool:
        """Whether it has said its last, and is about to be gone."""
        return self._control is not None and self._control.closed.is_set()

    def handed_over(self) -> tuple[int, int, bytes] | None:
        """Return what another program can adopt it by; None if it is not there.

        Its process, a descriptor of its own of our end of the control socket, and the beginning of
        what is being said.
        """
        transport, control = self._transport, self._control
        if self._process is None or transport is None or control is None or self.hung_up:
            return None
        end = os.dup(transport.get_extra_info("socket").fileno())
        return self._process.pid, end, control.rest

    def hang_up(self) -> None:
        """Have it end at once, as if this process were gone."""
        if self._transport is not None:
            self._transport.close()

    def tell(self, *message: object) -> None:
        """Send a message; a child that is just being replaced does not get it."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pack(message))

    def release(self) -> None:
        """Stop restarting it."""
        self._released.set()

    async def gone(self) -> None:
        """Wait until it has ended for good (after `release`)."""
        if self._task is not None:
            await self._task

    def serves(self) -> None:
        """Note that it is ready."""
        if not self.ready:
            self.ready = True
            self.since = asyncio.get_running_loop().time()

    def kill(self) -> None:
        """End it now."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        false_starts = 0
        if self._adopted is not None:
            self._parent.ended(self, await self._run())
            return
        while not self._released.is_set():
            self.born = loop.time()
            self.last_words = ""
            how = await self._run()
            now = loop.time()
            self.proven |= self.ready
            self.since = now if self.ready else self.since
            self.ready = False
            self.prepared = self.switched = 0
            wait = self.endings.ended(now, now - self.born)
            self._parent.ended(self, how)
            false_starts += not self.proven
            if false_starts == MAX_FALSE_STARTS:
                self._parent.hopeless(self, self.last_words or how)
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), wait)

    async def _run(self) -> str:
        """Run it once; return how it ended."""
        adopted, self._adopted = self._adopted, None
        try:
            ours, process, heard = adopted or await self._spawn()
        except OSError as error:  # no memory or no descriptors left, for now
            return f"cannot start a process: {os.strerror(error.errno or 0)}"
        self._process = process
        ours.settimeout(0)
        self._control = control = _Control(self)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_unix_connection(lambda: control, sock=ours)
        self._transport = transport
        if heard:
            control.data_received(heard)
        if adopted is None:
            self._parent.started(self)
            if self._released.is_set():
                self.kill()  # it was told to drain before it could hear
        code = await process.wait()
        with suppress(TimeoutError):  # what it said at last is still to be read
            await asyncio.wait_for(control.closed.wait(), _HANG_UP_SECONDS)
        self._transport = self._process = None
        transport.abort()
        return how_it_ended(code)

    async def _spawn(self) -> tuple[socket.socket, asyncio.subprocess.Process, bytes]:
        """Return our end of a socket pair, and a new process with the other.

        Raises:
            OSError: there is no process to be had.
        """
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                self._module,
                *[part.format(control=theirs.fileno()) for part in self._arguments],
                stdin=asyncio.subprocess.DEVNULL,
                env=without_secrets(os.environ),
                pass_fds=(theirs.fileno(), *self._fds),
                # A terminal's Ctrl-C is the supervisor's to hear; a child that is just starting
                # could not ignore it yet.
                start_new_session=True,
                preexec_fn=partial(_die_with, os.getpid(), self._at_our_end),
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours, process, b""

    def heard(self, message: list[object]) -> None:
        """Pass on what the child says."""
        self._parent.hear(self, message)


class _Control(asyncio.Protocol):
    """The supervisor's end of the socket pair."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._reader = FrameReader()
        self.closed = asyncio.Event()

    @property
    def rest(self) -> bytes:
        """The beginning of a message that has not come to its end."""
        return self._reader.rest

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._reader.feed(data):
                self._child.heard(message)
        except FrameError:
            self._child.kill()  # it writes nonsense; start afresh

    def connection_lost(self, _error: Exception | None) -> None:
        self.closed.set()


def _die_with(parent: int, number: int) -> None:
    """Have the kernel signal this child when the supervisor ends, however it ends (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)
