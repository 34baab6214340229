"""What passes from one program to the next: places, the bundle that serves, figures, old fronts."""

import os
from collections.abc import Callable
from contextlib import ExitStack

from daemon.settings import Settings
from daemon.supervisor import upgrade
from daemon.supervisor.admin.service import AdminService
from daemon.supervisor.collection import Collection
from daemon.supervisor.family import Family
from daemon.supervisor.handover import Handover
from daemon.supervisor.listeners import Listeners, RuntimeFolder, let_go, reserve
from daemon.supervisor.oversight import Oversight
from daemon.supervisor.reload import Reloader
from daemon.supervisor.storage import Storage

ENVOY_LISTEN = "FAIRVISOR_ENVOY_LISTEN"


class Estate:
    """Everything that there is only one of, and that a program takes over or makes."""

    folder: RuntimeFolder
    admin: AdminService

    def __init__(
        self,
        storage: Storage,
        family: Family,
        reloader: Reloader,
        collection: Collection,
        oversight: Oversight,
    ) -> None:
        self.listeners = Listeners()
        self.envoy = ""
        """Where one more front answers Envoy's gRPC."""
        self._storage = storage
        self._family = family
        self._reloader = reloader
        self._collection = collection
        self._oversight = oversight

    def take(self, settings: Settings, left: Handover | None, stack: ExitStack) -> None:
        """Have all of it; `stack` gives it back.

        Raises:
            ListenError, StateError: something cannot be had; one line that says why.
        """
        stack.callback(self.listeners.close)
        stack.callback(self._storage.release)
        if left is None:
            self._storage.take()
            self.listeners.open(settings.listen, settings.backlog)
            self.folder = RuntimeFolder()
        else:
            self._storage.adopt(left)
            self.listeners.adopt(left.listeners, given=left.given)
            self.folder = RuntimeFolder(left.folder, left.meetings)
            self._reloader.adopt(left.bundle)
            self._collection.retired.add(left.retired)
            self._oversight.restarts.update(left.restarts)
            self._oversight.hung.update(left.hung)
            self._family.adopt(left.fronts)
        stack.callback(self.folder.remove)
        if settings.envoy_listen is not None:
            inherited = left is not None
            self.envoy, kept = reserve(settings.envoy_listen, ENVOY_LISTEN, inherited=inherited)
            stack.callback(let_go, self.envoy, kept)
        self.admin = AdminService(settings.admin_socket)
        stack.callback(self.admin.remove)

    @property
    def names(self) -> list[str]:
        """The addresses that clients may ask at."""
        return [*self.listeners.names, *([f"{self.envoy} (gRPC)"] if self.envoy else [])]

    def handover(self) -> Handover:
        """Return the record of it for another program."""
        return Handover(
            bundle=self._reloader.leave(),
            listeners=[each.fileno() for each in self.listeners.sockets],
            given=self.listeners.given,
            folder=str(self.folder.path),
            meetings=self.folder.meetings,
            lock=self._storage.lock,
            run=self._storage.run,
            lives=self._storage.lives,
            secret=self._storage.secret,
            fronts=self._family.leave(),
            retired=self._collection.retired.snapshot(),
            restarts=self._oversight.restarts,
            hung=self._oversight.hung,
        )

    async def pass_on(self, last: Callable[[int], None]) -> None:
        """End all but fronts that are under way, and become the program that is installed now.

        `last` is called before, with the number of those fronts.

        Raises:
            OSError: that program is not there.
        """
        await self._reloader.rest()
        await self.admin.stop()
        await self._family.retire()
        left = self.handover()
        held = [*left.listeners, *left.meetings, *(front.control for front in left.fronts)]
        if left.lock >= 0:
            held.append(left.lock)
        last(len(left.fronts))
        upgrade.replace(left, held, os.environ)
