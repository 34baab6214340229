"""The children of one daemon: which there are, how each is started, in which order they go."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from socket import socket

from daemon.settings import Settings
from daemon.supervisor import upgrade
from daemon.supervisor.adopted import AdoptedProcess
from daemon.supervisor.children import Child, Parent
from daemon.supervisor.handover import LeavingFront
from daemon.supervisor.listeners import RuntimeFolder
from daemon.supervisor.storage import Storage
from protocol import control

DRAIN_SECONDS = 37.0
"""Fronts get 35 s to finish; what is left then is killed."""
LEAVING = ", leaving"


class Family:
    """Fronts, shards and, where counters are stored, a keeper."""

    def __init__(self, settings: Settings, storage: Storage, parent: Parent) -> None:
        self._settings = settings
        self._storage = storage
        self._parent = parent
        self.fronts: list[Child] = []
        self.shards: list[Child] = []
        self.keepers: list[Child] = []
        self.leaving: list[Child] = []
        """Fronts of the program before this one, which finish what they have under way."""
        self.shards_begun = False

    @property
    def all(self) -> list[Child]:
        """Every child that is meant to be there."""
        return self.fronts + self.shards + self.keepers

    @property
    def http_fronts(self) -> int:
        """The number of fronts that answer over HTTP."""
        return sum(front.kind == "front" for front in self.fronts)

    def start(self, folder: RuntimeFolder, listeners: Sequence[socket], envoy: str = "") -> None:
        """Start the children; shards wait until what earlier runs have left is in order.

        `envoy` is an address at which one more front answers Envoy's gRPC.

        Raises:
            ListenError: there is no place for the shards' sockets.
        """
        places = folder.shard_sockets(self._settings.shards)
        for index, (_, meeting) in enumerate(places):
            self.shards.append(self._shard(index, meeting))
        fds = [listener.fileno() for listener in listeners]
        paths = [path for path, _ in places]
        self.fronts += [
            self._front(index, fds, paths) for index in range(self._settings.worker_processes)
        ]
        if envoy:
            self.fronts.append(self._envoy(envoy, paths))
        if self._storage.path is not None:
            self.keepers.append(self._keeper(str(self._storage.path)))
        for child in self.keepers + self.fronts:
            child.start()
        if self._storage.path is None:
            self.start_shards()

    def start_shards(self) -> None:
        """Start the shards: there is nothing, or nothing more, to wait for."""
        self.shards_begun = True
        for shard in self.shards:
            shard.start()

    def adopt(self, fronts: Sequence[LeavingFront]) -> None:
        """Take over fronts of the program before this one."""
        for front in fronts:
            name = front.name if front.name.endswith(LEAVING) else front.name + LEAVING
            child = Child(name, "", (), (), self._parent)
            self.leaving.append(child)
            end = socket(fileno=front.control)
            child.adopt(AdoptedProcess(front.pid), end, front.heard)

    def leave(self) -> list[LeavingFront]:
        """Return the fronts that are still there, for another program to adopt."""
        found = [(front.name, front.handed_over()) for front in self.fronts + self.leaving]
        return [LeavingFront(name, *each) for name, each in found if each is not None]

    async def retire(self) -> None:
        """Have fronts take nothing new, then end everybody else; they have stored what they did."""
        await upgrade.retire(self.fronts)
        for shard in self.shards:
            shard.release()
            shard.tell(control.DRAIN)
        for keeper in self.keepers:
            keeper.release()
            keeper.hang_up()  # the next one folds what there is
        await upgrade.end(self.shards + self.keepers)
        # What a front counted is known, and belongs to what goes on, once it is gone.
        gone = [front for front in self.fronts + self.leaving if front.hung_up]
        await asyncio.gather(*[front.gone() for front in gone])

    def kill(self) -> None:
        """End every child now, for good."""
        for child in self.all + self.leaving:
            child.release()
            child.kill()

    async def drain(self) -> None:
        """Have fronts finish, then shards, then the keeper."""
        for children in (self.fronts + self.leaving, self.shards, self.keepers):
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
        # Its own signal, for its fronts may have died with answers unwritten.
        held = (listener, *self._held)
        return Child(f"shard {index}", "shard", arguments, held, self._parent, signal.SIGUSR2)

    def _front(self, index: int, fds: Sequence[int], paths: Sequence[str]) -> Child:
        arguments = (str(index), "{control}", ",".join(map(str, fds)), *paths)
        return Child(f"front {index}", "daemon.front", arguments, fds, self._parent)

    def _envoy(self, address: str, paths: Sequence[str]) -> Child:
        where = f"envoy={address}".replace("{", "{{").replace("}", "}}")
        arguments = (str(len(self.fronts)), "{control}", where, *paths)
        return Child("envoy", "daemon.front", arguments, (), self._parent)

    def _keeper(self, path: str) -> Child:
        arguments = ("{control}", path.replace("{", "{{").replace("}", "}}"))
        return Child("keeper", "shard.stores", arguments, self._held, self._parent)
