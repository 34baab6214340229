"""What the daemon tells the service manager that started it: sd_notify(3), without a library.

A datagram of `NAME=value` lines to the socket in NOTIFY_SOCKET; a first `@` stands for the abstract
name space. Without that variable nothing is told. `Type=notify` and `notify-reload` need READY=1,
RELOADING=1 with MONOTONIC_USEC, and STOPPING=1; WatchdogSec= needs WATCHDOG=1
(sd_watchdog_enabled(3)).
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

_SEND_SECONDS = 1.0


class ServiceManager:
    """Whoever started the daemon. `watchdog`: seconds between signs of life, 0 if none are due."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        if not name.startswith(("/", "@")):
            self._address = ""
        self.watchdog = _watchdog(environ) if self._address else 0.0
        self._reloads = 0

    def ready(self, status: str) -> None:
        """Tell that everything is there, for the first time or again."""
        self._tell("READY=1", f"MAINPID={os.getpid()}", f"STATUS={status}")

    def status(self, text: str) -> None:
        """Tell an operator how it is."""
        self._tell(f"STATUS={text}")

    def stopping(self) -> None:
        """Tell that a shutdown has begun."""
        self._tell("STOPPING=1", "STATUS=finishing what is under way")

    def begin(self, status: str) -> None:
        """Tell that something is reloaded; `ready` ends it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}", f"STATUS={status}")

    @contextmanager
    def reloading(self, status: Callable[[], str]) -> Iterator[None]:
        """Tell that a reload begins, and with what status the last of several ends."""
        self._reloads += 1
        self.begin("reading the bundle")
        try:
            yield
        finally:
            self._reloads -= 1
            if not self._reloads:
                self.ready(status())

    async def keep_alive(self, healthy: Callable[[], bool]) -> None:
        """Give signs of life twice as often as they are due, for ever, while all is well."""
        while self.watchdog:
            if healthy():
                self.alive()
            await asyncio.sleep(self.watchdog / 2)

    def alive(self) -> None:
        """Give a sign of life, if any is wanted."""
        if self.watchdog:
            self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
            sock.settimeout(_SEND_SECONDS)
            sock.sendto("\n".join(lines).encode(), self._address)


def _watchdog(environ: Mapping[str, str]) -> float:
    """Return the seconds of WATCHDOG_USEC if it is meant for this process, else 0."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(usec) / 1e6
