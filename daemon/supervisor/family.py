"""The children of one daemon: which there are, how each is started, in which order they go."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from socket import socket

from daemon.settings import Settings
from daemon.supervisor.children import Child, Parent
from daemon.supervisor.listeners import RuntimeFolder
from daemon.supervisor.storage import Storage
from protocol import control

DRAIN_SECONDS = 37.0
"""Fronts get 35 s to finish; what is left then is killed."""


class Family:
    """Fronts, shards and, where counters are stored, a keeper."""

    def __init__(self, settings: Settings, storage: Storage, parent: Parent) -> None:
        self._settings = settings
        self._storage = storage
        self._parent = parent
        self.fronts: list[Child] = []
        self.shards: list[Child] = []
        self.keepers: list[Child] = []

    @property
    def all(self) -> list[Child]:
        """Every child."""
        return self.fronts + self.shards + self.keepers

    def start(self, folder: RuntimeFolder, listeners: Sequence[socket]) -> None:
        """Start the children; shards wait until what earlier runs have left is in order.

        Raises:
            ListenError: there is no place for the shards' sockets.
        """
        places = [folder.shard_socket(index) for index in range(self._settings.shards)]
        for index, (_, meeting) in enumerate(places):
            # Shards are restarted on it for as long as this process lives.
            self.shards.append(self._shard(index, meeting.detach()))
        fds = [listener.fileno() for listener in listeners]
        paths = [path for path, _ in places]
        self.fronts += [
            self._front(index, fds, paths) for index in range(self._settings.worker_processes)
        ]
        if self._storage.path is not None:
            self.keepers.append(self._keeper(str(self._storage.path)))
        for child in self.keepers + self.fronts:
            child.start()
        if self._storage.path is None:
            self.start_shards()

    def start_shards(self) -> None:
        """Start the shards: there is nothing, or nothing more, to wait for."""
        for shard in self.shards:
            shard.start()

    def kill(self) -> None:
        """End every child now, for good."""
        for child in self.all:
            child.release()
            child.kill()

    async def drain(self) -> None:
        """Have fronts finish, then shards, then the keeper."""
        for children in (self.fronts, self.shards, self.keepers):
            for child in children:
                child.release()
                child.tell(control.DRAIN)
            with suppress(TimeoutError):
                gone = asyncio.gather(*[child.gone() for child in children])
                await asyncio.wait_for(gone, DRAIN_SECONDS)

    @property
    def _held(self) -> tuple[int, ...]:
        return () if self._storage.path is None else (self._storage.lock,)

    def _shard(self, index: int, listener: int) -> Child:
        arguments = (str(index), "{control}", str(listener))
        return Child(f"shard {index}", "shard", arguments, (listener, *self._held), self._parent)

    def _front(self, index: int, fds: Sequence[int], paths: Sequence[str]) -> Child:
        arguments = (str(index), "{control}", ",".join(map(str, fds)), *paths)
        return Child(f"front {index}", "daemon.front", arguments, fds, self._parent)

    def _keeper(self, path: str) -> Child:
        arguments = ("{control}", path.replace("{", "{{").replace("}", "}}"))
        return Child("keeper", "shard.stores", arguments, self._held, self._parent)
