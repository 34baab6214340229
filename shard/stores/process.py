"""The keeper's process: waits for the supervisor's word, and looks at the logs every second."""

import gc
import os
import select
import signal
import socket
import time
from pathlib import Path

from setproctitle import setproctitle

from protocol import control
from protocol.frames import FrameReader, pack
from shard.stores.folder import StateFolder
from shard.stores.keeper import Keeper

_TURN_SECONDS = 1.0
_READ_BYTES = 65_536
_NICENESS = 5


class KeeperProcess:
    """The loop around `Keeper`. `run` returns when the supervisor says so or is gone."""

    def __init__(self, control_sock: socket.socket, folder: StateFolder) -> None:
        self._sock = control_sock
        self._reader = FrameReader()
        self._folder = folder
        self._keeper: Keeper | None = None
        self._running = True

    def run(self) -> None:
        """Keep until told to stop."""
        while self._running:
            readable, _, _ = select.select([self._sock], [], [], _TURN_SECONDS)
            if readable:
                self._hear()
            if self._running and self._keeper is not None:
                self._keeper.turn(time.time())

    def _hear(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._running = False
            return
        for message in self._reader.feed(data):
            self._obey(message)

    def _obey(self, message: list[object]) -> None:
        match message:
            case [control.CONFIGURE, {"reservation_ttl": int(ttl), "run": int(run)}]:
                self._keeper = keeper = Keeper(self._folder, ttl, self._notice, self._alive)
                number = keeper.start(run, time.time())
                self._tell(control.KEEPING, number, keeper.lost)
                self._tell(control.READY)
            case [control.COLLECT, int(number)] if self._keeper is not None:
                self._tell(control.TALLY, number, self._keeper.figures())
            case [control.PING]:
                self._alive()
            case [control.DRAIN]:
                if self._keeper is not None:
                    self._keeper.finish(time.time())
                self._running = False

    def _alive(self) -> None:
        self._tell(control.PONG)

    def _notice(self, level: str, text: str) -> None:
        self._tell(control.NOTICE, level, text)

    def _tell(self, *message: object) -> None:
        try:
            self._sock.sendall(pack(message))
        except OSError:
            self._running = False


def run(control_fd: int, folder: str) -> None:
    """Keep a state folder until the supervisor says stop or is gone."""
    setproctitle("fairvisor: keeper")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    gc.disable()
    KeeperProcess(socket.socket(fileno=control_fd), StateFolder(Path(folder))).run()
