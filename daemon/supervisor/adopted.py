"""A process that this program did not start: a child of the one before, with the same id."""

import asyncio
import os
import signal
from contextlib import suppress


class AdoptedProcess:
    """As much of `asyncio.subprocess.Process` as a parent needs (pidfd_open(2), waitpid(2))."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def kill(self) -> None:
        """End it now.

        Raises:
            ProcessLookupError: it has ended.
        """
        os.kill(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end; return its code, negative for a signal, 0 if nobody knows."""
        try:
            watched = os.pidfd_open(self.pid)
        except OSError:
            return self._reaped()
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(watched, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(watched)
            os.close(watched)
        return self._reaped()

    def _reaped(self) -> int:
        with suppress(ChildProcessError):
            _, status = os.waitpid(self.pid, 0)
            return os.waitstatus_to_exitcode(status)
        return 0
