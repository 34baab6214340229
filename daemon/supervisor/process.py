"""The supervisor: one process that owns sockets, children and the active bundle (§13.1, §13.4)."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from pathlib import Path
from socket import socket
from typing import Any

from setproctitle import setproctitle

from daemon.settings import Settings
from daemon.supervisor import exposition
from daemon.supervisor.admin.api import AdminApi
from daemon.supervisor.admin.breakers import BreakerDesk
from daemon.supervisor.admin.questions import Questions
from daemon.supervisor.admin.service import AdminService
from daemon.supervisor.bundles import Loaded
from daemon.supervisor.children import Child
from daemon.supervisor.collection import Collection
from daemon.supervisor.listeners import ListenError, RuntimeFolder, bind, reserve
from daemon.supervisor.metrics import render
from daemon.supervisor.reload import Reloaded, Reloader
from daemon.supervisor.reports import Reports, now_us
from daemon.supervisor.storage import Storage, notice
from protocol import control
from shard.stores.folder import StateError

log = logging.getLogger("fairvisor")

DRAIN_SECONDS = 37.0
"""Fronts get 35 s to finish; what is left then is killed."""
START_SECONDS = 20.0
ENVOY_LISTEN = "FAIRVISOR_ENVOY_LISTEN"


class Supervisor:
    """Everything the daemon is, seen from above. `run` returns the exit code."""

    def __init__(self, settings: Settings, loaded: Loaded) -> None:
        self._settings = settings
        self._fronts: list[Child] = []
        self._envoy = ""
        """Where one more front answers Envoy's gRPC."""
        self._shards: list[Child] = []
        self._keepers: list[Child] = []
        self._storage = Storage(settings)
        self._collection = Collection(self._shards, self._fronts, self._keepers)
        self._stopping = False
        self._failure = ""
        self._reports = Reports(lambda: self._reloader.active.loaded.bundle)
        self._reloader = Reloader(
            settings.config_file or "",
            loaded,
            settings.signing_key,
            self._shards,
            self._fronts,
            self._reports,
        )
        self._questions = Questions(self._shards)
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._tasks: set[asyncio.Task[object]] = set()

    async def run(self) -> int:
        """Serve until a signal says stop; return the exit code."""
        setproctitle("fairvisor: supervisor")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        listeners: list[socket] = []
        with ExitStack() as stack:
            stack.callback(self._close, listeners)
            stack.callback(self._storage.release)
            try:
                self._storage.take()
                for address in self._settings.listen:
                    listeners.append(bind(address))  # noqa: PERF401 - what was bound before a failure
                if self._settings.envoy_listen is not None:
                    self._envoy, kept = reserve(self._settings.envoy_listen, ENVOY_LISTEN)
                    stack.callback(_let_go, self._envoy, kept)
                admin = AdminService(self._settings.admin_socket)
                stack.callback(admin.remove)
                folder = RuntimeFolder()
                stack.callback(folder.remove)
                stack.callback(self._end_children)
                self._start_children(folder, listeners)
            except (ListenError, StateError) as error:
                self._failure = str(error)
            else:
                await self._serve(listeners, admin)
        if self._failure:
            sys.stderr.write(f"fairvisor: {self._failure}\n")
            return 1
        return 0

    async def _serve(self, listeners: list[socket], admin: AdminService) -> None:
        names = [_listener_name(listener) for listener in listeners]
        if self._envoy:
            names.append(f"{self._envoy} (gRPC)")
        self._task(self._announce(names, admin))
        regular = (
            self._task(self._collection.regularly()),
            self._task(self._reloader.watch(self._settings.file_poll_interval)),
            self._task(self._reports.watch_overrides()),
        )
        await admin.start(self._admin_api())
        await self._stop.wait()
        self._stopping = True
        for task in regular:
            task.cancel()
        self._close(listeners)
        await admin.stop()
        if not self._failure or self._ready.is_set():
            await self._drain()
        self._reports.close()

    def _admin_api(self) -> AdminApi:
        active, tell = (lambda: self._reloader.active), self._reports.tell
        desk = BreakerDesk(self._questions, active, self._storage.secret, tell)
        return AdminApi(desk, self._reload_now)

    def _end_children(self) -> None:
        for child in self._children:
            child.release()
            child.kill()

    @property
    def _children(self) -> list[Child]:
        return self._fronts + self._shards + self._keepers

    def _close(self, listeners: list[socket]) -> None:
        # The first thing of a shutdown: new clients are refused rather than kept waiting.
        while listeners:
            listener = listeners.pop()
            name = listener.getsockname()
            listener.close()
            if isinstance(name, str):
                with suppress(OSError):
                    os.unlink(name)  # noqa: PTH108 - a socket's name is text

    def _start_children(self, folder: RuntimeFolder, listeners: list[socket]) -> None:
        paths = []
        held = () if self._storage.path is None else (self._storage.lock,)
        for index in range(self._settings.shards):
            path, listener = folder.shard_socket(index)
            paths.append(path)
            self._shards.append(
                Child(
                    f"shard {index}",
                    "shard",
                    (str(index), "{control}", str(listener.fileno())),
                    (listener.fileno(), *held),
                    self._hear,
                    self._shard_started,
                    self._ended,
                    self._hopeless,
                )
            )
            self._keep_open(listener)
        fds = [listener.fileno() for listener in listeners]
        for index in range(self._settings.worker_processes):
            self._add_front(f"front {index}", index, ",".join(map(str, fds)), paths, fds)
        if self._envoy:
            self._add_front("envoy", len(self._fronts), f"envoy={self._envoy}", paths, [])
        if self._storage.path is None:
            starting = self._shards + self._fronts
        else:
            # Shards wait until what earlier runs have left is in order.
            self._keepers.append(
                Child(
                    "keeper",
                    "shard.stores",
                    ("{control}", str(self._storage.path).replace("{", "{{").replace("}", "}}")),
                    held,
                    self._hear,
                    self._keeper_started,
                    self._ended,
                    self._hopeless,
                )
            )
            starting = self._keepers + self._fronts
        for child in starting:
            child.start()

    def _add_front(
        self, name: str, index: int, where: str, shards: list[str], fds: list[int]
    ) -> None:
        where = where.replace("{", "{{").replace("}", "}}")
        self._fronts.append(
            Child(
                name,
                "daemon.front",
                (str(index), "{control}", where, *shards),
                fds,
                self._hear,
                self._front_started,
                self._ended,
                self._hopeless,
            )
        )

    def _keep_open(self, listener: socket) -> None:
        listener.detach()  # shards are restarted on it for as long as this process lives

    def _keeper_started(self, child: Child) -> None:
        child.tell(control.CONFIGURE, self._storage.keeper_settings())

    def _keeping(self, run: int, *, lost: bool) -> None:
        """Go on with the state folder in order; `lost`: the database had to be begun anew."""
        first = not self._storage.run
        self._storage.run = run
        for shard in self._shards:
            if first:
                shard.start()
            elif lost:
                shard.tell(control.SNAPSHOT)

    def _shard_started(self, child: Child) -> None:
        share = self._settings.counter_memory // self._settings.shards
        ttl = int(self._settings.reservation_ttl * 1_000_000)
        store = self._storage.shard_orders(self._shards.index(child))
        settings = {"memory": share, "reservation_ttl": ttl, "store": store}
        child.tell(control.CONFIGURE, settings)
        self._reloader.equip_shard(child)

    def _front_started(self, child: Child) -> None:
        child.tell(control.CONFIGURE, {"jitter_key": self._storage.secret})
        self._reloader.equip_front(child)

    def _reload(self) -> None:
        log.info("SIGHUP: reading %s again", self._settings.config_file)
        self._task(self._reload_now())

    async def _reload_now(self) -> Reloaded:
        return await self._reloader.reload(rollback=True)

    def _hear(self, child: Child, message: list[object]) -> None:
        match message:
            case [control.READY]:
                self._is_ready(child)
            case [control.PREPARED, int(number)]:
                child.prepared = number
                if child in self._shards:
                    self._is_ready(child)
            case [control.FAILED, str(line), str(traceback)]:
                child.last_words = line
                if child.proven or child.ready:
                    log.error("%s failed: %s", child.name, traceback)
            case [control.SWITCHED, int(number)]:
                child.switched = number
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

    def _is_ready(self, child: Child) -> None:
        child.ready = True
        if all(each.ready for each in self._children):
            self._ready.set()

    def _ended(self, child: Child, how: str) -> None:
        self._collection.ended(child)
        self._questions.ended(child)
        if self._stopping:
            return
        self._collection.restarted(child)
        # One that has never been ready is told of once, when it is given up.
        level = logging.WARNING if child.proven else logging.DEBUG
        log.log(level, "%s ended (%s); starting it again", child.name, how)

    def _hopeless(self, child: Child, why: str) -> None:
        if not self._failure:
            self._failure = f"{child.name} cannot be started: {why}"
        self._stop.set()

    async def _announce(self, names: list[str], admin: AdminService) -> None:
        try:
            await asyncio.wait_for(self._ready.wait(), START_SECONDS)
        except TimeoutError:
            log.error("not every process is ready after %d s", START_SECONDS)  # noqa: TRY400
            return
        bundle = self._reloader.active.loaded.bundle
        log.info(
            "ready on %s: bundle version %d with %d policies, %d front(s), %d shard(s)",
            ", ".join(names),
            bundle.version,
            len(bundle.policies),
            self._settings.worker_processes,
            len(self._shards),
        )
        admin.announce()

    async def _scrape(self, child: Child, number: int) -> None:
        await self._collection.collect()
        child.tell(control.METRICS, number, self._exposition())

    def _exposition(self) -> bytes:
        totals = self._collection.totals()
        active = self._reloader.active
        exposition.add_build(totals)
        exposition.add_bundle(totals, active.loaded.bundle, self._storage.secret, now_us())
        exposition.add_breakers(totals, active.breakers.items(), self._collection.open_breakers())
        return render(totals)

    async def _drain(self) -> None:
        log.info("stopping: finishing what is under way")
        for children in (self._fronts, self._shards, self._keepers):
            for child in children:
                child.release()
                child.tell(control.DRAIN)
            with suppress(TimeoutError):
                gone = asyncio.gather(*[child.gone() for child in children])
                await asyncio.wait_for(gone, DRAIN_SECONDS)
        log.info("stopped")

    def _task(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _let_go(address: str, kept: socket | None) -> None:
    """Free the port of a front that binds by itself, or remove the socket that it left."""
    if kept is not None:
        kept.close()
    else:
        Path(address.removeprefix("unix:")).unlink(missing_ok=True)


def _listener_name(listener: socket) -> str:
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
