"""The supervisor: one process that owns sockets, children and the active bundle (§13.1, §13.4)."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any

from setproctitle import setproctitle

from daemon.front.unforeseen import tell_by_place
from daemon.settings import Settings
from daemon.supervisor import upgrade
from daemon.supervisor.admin.api import AdminApi
from daemon.supervisor.admin.breakers import BreakerDesk
from daemon.supervisor.admin.questions import Questions
from daemon.supervisor.bundles import Loaded
from daemon.supervisor.children import Child
from daemon.supervisor.collection import Collection
from daemon.supervisor.estate import Estate
from daemon.supervisor.exposition import Exposition
from daemon.supervisor.family import Family
from daemon.supervisor.handover import Handover
from daemon.supervisor.listeners import ListenError
from daemon.supervisor.oversight import Oversight
from daemon.supervisor.reload import Reloaded, Reloader
from daemon.supervisor.reports import Reports
from daemon.supervisor.scrapes import Scrapes
from daemon.supervisor.service_manager import ServiceManager
from daemon.supervisor.storage import Storage, notice
from protocol import control
from shard.stores.folder import StateError

log = logging.getLogger("fairvisor")

START_SECONDS = 20.0
"""Fronts of a daemon that starts wait this long for shards that restore counters."""
RESTART_SECONDS = 1.0
"""A front that is restarted serves without a shard that is not there by then."""


class Supervisor:
    """Everything the daemon is, seen from above. `run` returns the exit code.

    `left` is what the program before this one has left, if there was one.
    """

    def __init__(self, settings: Settings, loaded: Loaded, left: Handover | None = None) -> None:
        self._settings = settings
        self._left = left
        self._storage = Storage(settings)
        self._family = family = Family(settings, self._storage, self)
        self._collection = Collection(family.shards, family.fronts, family.keepers, family.leaving)
        self._upgrading: asyncio.Task[object] | None = None
        self._regular: tuple[asyncio.Task[object], ...] = ()
        self._stopping = False
        self._failure = ""
        self._reports = Reports(lambda: self._reloader.active.loaded.bundle)
        self._reloader = Reloader(
            settings.config_file or "",
            loaded,
            settings.signing_key,
            family.shards,
            family.fronts,
            self._reports,
        )
        self._oversight = Oversight(
            family,
            settings.watchdog,
            lambda: self._reloader.compiling,
            lambda: self._manager.status(self._status()),
        )
        self._estate = Estate(
            self._storage, family, self._reloader, self._collection, self._oversight
        )
        exposition = Exposition(
            self._collection, self._reloader, self._oversight, lambda: self._storage.secret
        )
        self._scrapes = Scrapes(self._collection, exposition.text)
        self._questions = Questions(family.shards)
        self._manager = ServiceManager(os.environ)
        self._hups = asyncio.Event()
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._tasks: set[asyncio.Task[object]] = set()

    async def run(self) -> int:
        """Serve until a signal says stop; return the exit code."""
        setproctitle("fairvisor: supervisor")
        loop = asyncio.get_running_loop()
        tell_by_place(loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hups.set)
        loop.add_signal_handler(signal.SIGUSR2, self._upgrade_on_usr2)
        with ExitStack() as stack:
            try:
                self._estate.take(self._settings, self._left, stack)
                stack.callback(self._family.kill)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, upgrade.WAITING)
                self._family.start(
                    self._estate.folder, self._estate.listeners.sockets, self._estate.envoy
                )
            except (ListenError, StateError) as error:
                self._failure = str(error)
            else:
                await self._serve()
        if self._failure:
            sys.stderr.write(f"fairvisor: {self._failure}\n")
            return 1
        return 0

    async def _serve(self) -> None:
        self._task(self._announce(self._estate.names))
        self._task(self._manager.keep_alive(lambda: self._healthy))
        self._regular = (
            self._task(self._oversight.regularly()),
            self._task(self._reload_on_hup()),
            self._task(self._collection.regularly()),
            self._task(self._reloader.watch(self._settings.file_poll_interval)),
            self._task(self._reports.watch_overrides()),
        )
        await self._estate.admin.start(self._admin_api())
        await self._stop.wait()
        if self._upgrading is not None:
            self._upgrading.cancel()
        self._manager.stopping()
        self._rest()
        # The first thing of a shutdown: new clients are refused rather than kept waiting.
        self._estate.listeners.close()
        await self._estate.admin.stop()
        if not self._failure or self._ready.is_set():
            log.info("stopping: finishing what is under way")
            await self._family.drain()
            log.info("stopped")
        self._reports.close()

    def _rest(self) -> None:
        """Do nothing any more that is done regularly."""
        self._stopping = True
        for task in self._regular:
            task.cancel()

    def _upgrade_on_usr2(self) -> None:
        if self._stopping or self._upgrading is not None or not self._ready.is_set():
            log.warning("SIGUSR2: not now; something else is under way")
        else:
            self._upgrading = self._task(self._upgrade())

    async def _upgrade(self) -> None:
        """Go on as the program that is installed now; the present one goes on if it could not."""
        log.info("SIGUSR2: going on as the version that is installed now, if it can")
        objection = await upgrade.objection(self._estate.handover())
        if objection:
            log.error("not upgraded: %s; the running version goes on", objection)
            self._upgrading = None
            return
        if self._storage.path is None:
            log.warning("counters are in memory only: they begin anew")
        self._manager.begin("upgrading")
        self._manager.alive()
        self._rest()
        try:
            await self._estate.pass_on(self._say_goodbye)
        except OSError as error:
            self._failure = f"{sys.executable} cannot be started: {error.strerror or error}"
            self._stop.set()

    def _say_goodbye(self, fronts: int) -> None:
        log.info("upgrading: %d front(s) finish what is under way", fronts)
        self._reports.close()

    def _admin_api(self) -> AdminApi:
        active, tell = (lambda: self._reloader.active), self._reports.tell
        desk = BreakerDesk(self._questions, active, self._storage.secret, tell)
        return AdminApi(desk, self._reload_now)

    def started(self, child: Child) -> None:
        """Equip a child that was just started."""
        if child in self._family.fronts:
            self._front_started(child)
        elif child in self._family.shards:
            self._shard_started(child)
        else:
            child.tell(control.CONFIGURE, self._storage.keeper_settings())

    def _keeping(self, run: int, *, lost: bool) -> None:
        """Go on with the state folder in order; `lost`: the database had to be begun anew."""
        self._storage.run = run
        if not self._family.shards_begun:
            self._family.start_shards()
        elif lost:
            for shard in self._family.shards:
                shard.tell(control.SNAPSHOT)

    def _shard_started(self, child: Child) -> None:
        share = self._settings.counter_memory // self._settings.shards
        ttl = int(self._settings.reservation_ttl * 1_000_000)
        store = self._storage.shard_orders(self._family.shards.index(child))
        settings = {
            "memory": share,
            "reservation_ttl": ttl,
            "max_reservations": self._settings.max_reservations,
            "store": store,
        }
        child.tell(control.CONFIGURE, settings)
        self._reloader.equip_shard(child)

    def _front_started(self, child: Child) -> None:
        settings = {
            "patience": RESTART_SECONDS if self._ready.is_set() else START_SECONDS,
            "jitter_key": self._storage.secret,
            "secrets": dict(self._settings.secrets),
        }
        child.tell(control.CONFIGURE, settings)
        self._oversight.greet(child)
        self._reloader.equip_front(child)

    async def _reload_on_hup(self) -> None:
        """Read the bundle again at every SIGHUP; those that come meanwhile are one."""
        while True:
            await self._hups.wait()
            self._hups.clear()
            log.info("SIGHUP: reading %s again", self._settings.config_file)
            await self._reload_now()

    async def _reload_now(self) -> Reloaded:
        with self._manager.reloading(self._status):
            return await self._reloader.reload(rollback=True)

    def _status(self) -> str:
        return self._oversight.status(self._reloader.active.loaded.bundle)

    @property
    def _healthy(self) -> bool:
        """Whether the service manager should leave the daemon alone."""
        return self._stopping or not self._ready.is_set() or self._oversight.serving

    def hear(self, child: Child, message: list[object]) -> None:
        """Take what a child says."""
        self._oversight.heard(child)
        match message:
            case [control.READY]:
                self._is_ready(child)
            case [control.PREPARED, int(number)]:
                child.prepared = number
                if child in self._family.shards:
                    self._is_ready(child)
            case [control.FAILED, str(line), str(traceback)]:
                child.last_words = line
                self._oversight.failed(child, traceback)
            case [control.SWITCHED, int(number)]:
                child.switched = number
            case [control.RETIRED]:
                child.retired = True
            case _:
                self._take(child, message)

    def _take(self, child: Child, message: list[object]) -> None:
        """Pass on what concerns more than the child that said it."""
        match message:
            case [control.TALLY, int(number), snapshot]:
                self._collection.hear(child, number, snapshot)
            case [control.TOLD, int(number), answer]:
                self._questions.hear(number, answer)
            case [control.SCRAPE, int(number)]:
                self._task(self._scrape(child, number))
            case [control.KEEPING, int(run), bool(lost)]:
                self._keeping(run, lost=lost)
            case [control.NOTICE, str(level), str(text)]:
                notice(level, text)

    async def _scrape(self, child: Child, number: int) -> None:
        child.tell(control.METRICS, number, await self._scrapes.text())

    def _is_ready(self, child: Child) -> None:
        child.serves()
        if all(each.ready for each in self._family.all):
            self._ready.set()

    def ended(self, child: Child, how: str) -> None:
        """Hear how a child ended."""
        self._collection.ended(child)
        self._questions.ended(child)
        if child in self._family.leaving:
            self._family.leaving.remove(child)
            log.info("%s, has finished", child.name)
        elif not self._stopping:
            self._oversight.ended(child, how)

    def hopeless(self, child: Child, why: str) -> None:
        """Give up: a child has never been there."""
        if not self._failure:
            self._failure = f"{child.name} cannot be started: {why}"
        self._stop.set()

    async def _announce(self, names: list[str]) -> None:
        try:
            await asyncio.wait_for(self._ready.wait(), START_SECONDS)
        except TimeoutError:
            log.error("not every process is ready after %d s", START_SECONDS)  # noqa: TRY400
            await self._ready.wait()
        status = self._status()
        log.info("ready on %s: %s", ", ".join(names), status)
        self._manager.ready(status)
        self._estate.admin.announce()

    def _task(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
