"""From one bundle to the next, all processes together (behaviour §2.7).

Rules
- A bundle becomes a numbered generation. Shards take its rule table first and keep the one before;
  then every front compiles it; only when all have done so are the fronts told to switch. An
  operation carries its generation, so no request is decided half by one and half by another.
- Whatever goes wrong before the switch changes nothing: the last good bundle keeps serving.
- A process that is restarted in between gets both, the active bundle and the one being prepared.
- A front that cannot follow is replaced: the new one starts on the new bundle.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from typing import Protocol

from daemon.engine.compile import compile_bundle
from daemon.engine.costs import CostCompiler
from daemon.engine.sources import no_prices
from daemon.supervisor.bundles import BundleError, Loaded, read_bundle, signature
from daemon.supervisor.children import Child
from daemon.supervisor.handover import ActiveBundle, digest
from daemon.supervisor.safeguards import Breaker, breakers
from protocol import control
from protocol.bundle import Problem

log = logging.getLogger("fairvisor")

PREPARE_SECONDS = 15.0
SWITCH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Generation:
    """A bundle with its number, the time it was loaded, and its breakers by identity."""

    number: int
    loaded: Loaded
    loaded_at: str
    breakers: Mapping[str, Breaker]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of a reload: `problems` with the bundle, a `failure` of ours, or neither.

    `version` and `hash` are those of the bundle that serves now; `applied`: it is another one.
    """

    version: int
    hash: str
    applied: bool = False
    problems: tuple[Problem, ...] = ()
    failure: str = ""


class Listener(Protocol):
    """Whoever wants to know what becomes of bundles."""

    def applied(self) -> None:
        """Hear that another bundle is active."""

    def rejected(self, problems: Sequence[Problem]) -> None:
        """Hear that a bundle was not taken."""


def generation(number: int, loaded: Loaded) -> Generation:
    """Return a bundle as a generation loaded now."""
    loaded_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Generation(number, loaded, loaded_at, breakers(loaded.bundle))


def acceptable(active: int, offered: int, *, rollback: bool) -> bool:
    """Return whether a version may replace the active one; `rollback` is a SIGHUP's right."""
    return rollback or offered > active


class Reloader:
    """Holds the active generation and leads the processes to the next."""

    def __init__(  # noqa: PLR0913 - what it reads, whom it leads, whom it tells
        self,
        path: str,
        loaded: Loaded,
        signing_key: bytes | None,
        shards: Sequence[Child],
        fronts: Sequence[Child],
        listener: Listener,
    ) -> None:
        self.active = generation(1, loaded)
        self._coming: Generation | None = None
        self._numbers = count(2)
        self._path = path
        self._signing_key = signing_key
        self._shards = shards
        self._fronts = fronts
        self._listener = listener
        self._seen = signature(path, loaded)
        self._complained = ""
        self._busy = asyncio.Lock()

    def adopt(self, left: ActiveBundle) -> None:
        """Go on with the bundle that the program before this one served.

        Its number stays if rules have the numbers that they had: fronts that are leaving use it.
        """
        same = digest(rule_table(self.active.loaded)) == left.table
        number = left.generation if same else left.generation + 1
        self.active = replace(self.active, number=number, loaded_at=left.loaded_at)
        self._numbers = count(number + 1)
        self._seen = left.seen

    def leave(self) -> ActiveBundle:
        """Return the bundle that serves, for another program to go on with."""
        active, loaded = self.active, self.active.loaded
        table = digest(rule_table(loaded))
        return ActiveBundle(
            loaded.text, loaded.jwks, active.number, active.loaded_at, table, self._seen
        )

    async def rest(self) -> None:
        """Wait for the reload that runs; there is none after it."""
        await self._busy.acquire()

    def equip_shard(self, child: Child) -> None:
        """Give a started shard the rule tables it needs."""
        for each in (self.active, self._coming):
            if each is not None:
                table = rule_table(each.loaded)
                child.tell(control.BUNDLE, each.number, table, self.active.number)

    def equip_front(self, child: Child) -> None:
        """Give a started front the bundle to serve, and the one to come."""
        _offer(child, self.active)
        child.tell(control.SWITCH, self.active.number)
        if self._coming is not None:
            _offer(child, self._coming)

    async def watch(self, interval: float) -> None:
        """Look at the file again and again; apply what is newer."""
        while True:
            await asyncio.sleep(interval)
            seen = signature(self._path, self.active.loaded)
            if seen != self._seen:
                self._seen = seen
                await self.reload(rollback=False)

    async def reload(self, *, rollback: bool) -> Reloaded:
        """Read the file and apply it if it may be; return what became of it."""
        async with self._busy:
            try:
                loaded = read_bundle(self._path, now=time.time(), signing_key=self._signing_key)
            except BundleError as error:
                self._report(error)
                return self._serving(problems=error.problems)
            unwanted = self._unwanted(loaded, rollback=rollback)
            if unwanted is not None:
                return self._serving(problems=unwanted)
            for warning in loaded.warnings:
                log.warning("%s: %s: %s", self._path, warning.path, warning.message)
            # A number is never used twice: a late answer must not count for the next bundle.
            return await self._apply(generation(next(self._numbers), loaded))

    @property
    def compiling(self) -> bool:
        """Whether processes are at a new bundle, and may be silent meanwhile."""
        return self._coming is not None

    @property
    def _version(self) -> int:
        return self.active.loaded.bundle.version

    def _report(self, error: BundleError) -> None:
        """Say why a bundle is not taken; a file that is gone is no fault of its content (§2.7)."""
        level = logging.WARNING if error.missing else logging.ERROR
        what = "bundle file" if error.missing else "bundle_rejected"
        for problem in error.problems:
            log.log(level, "%s: %s: %s: %s", what, error.path, problem.path, problem.message)
        log.log(level, "version %d keeps serving", self._version)
        if not error.missing:
            self._listener.rejected(error.problems)

    def _serving(
        self, *, applied: bool = False, problems: tuple[Problem, ...] = (), failure: str = ""
    ) -> Reloaded:
        bundle = self.active.loaded.bundle
        return Reloaded(bundle.version, bundle.hash, applied, problems, failure)

    def _unwanted(self, loaded: Loaded, *, rollback: bool) -> tuple[Problem, ...] | None:
        """Return None if a bundle is to be applied, else why not; nothing if it is active."""
        same = loaded.bundle.hash == self.active.loaded.bundle.hash
        if same:
            return () if loaded.jwks == self.active.loaded.jwks else None
        if acceptable(self._version, loaded.bundle.version, rollback=rollback):
            return None
        problem = Problem(
            "$.bundle_version",
            f"version_not_monotonic: is {loaded.bundle.version}, and {self._version} is active",
        )
        if self._complained != loaded.bundle.hash:
            self._complained = loaded.bundle.hash
            log.error(
                "version_not_monotonic: %s has version %d and version %d is active; raise"
                " bundle_version, or send SIGHUP to take it all the same",
                self._path,
                loaded.bundle.version,
                self._version,
            )
            self._listener.rejected((problem,))
        return (problem,)

    async def _apply(self, coming: Generation) -> Reloaded:
        self._coming = coming
        table = rule_table(coming.loaded)
        for shard in self._shards:
            shard.tell(control.BUNDLE, coming.number, table, self.active.number)
        if not await _all(
            self._shards, lambda child: child.prepared >= coming.number, PREPARE_SECONDS
        ):
            return self._give_up("a shard does not answer")
        for front in self._fronts:
            _offer(front, coming)
        if not await _all(
            self._fronts, lambda child: child.prepared >= coming.number, PREPARE_SECONDS
        ):
            return self._give_up("a front does not answer")
        self.active, self._coming = coming, None
        for front in self._fronts:
            front.tell(control.SWITCH, coming.number)
        await _all(self._fronts, lambda child: child.switched >= coming.number, SWITCH_SECONDS)
        for front in self._fronts:
            if front.switched < coming.number:
                log.error("%s did not switch in time; replacing it", front.name)
                front.kill()
        self._complained = ""
        self._listener.applied()
        return self._serving(applied=True)

    def _give_up(self, reason: str) -> Reloaded:
        self._coming = None
        log.error("bundle_rejected: %s; version %d keeps serving", reason, self._version)
        self._listener.rejected((Problem("$", reason),))
        return self._serving(failure=reason)


def rule_table(loaded: Loaded) -> list[list[object]]:
    """Return a bundle's rule table for the wire."""
    plan = compile_bundle(loaded.bundle, CostCompiler(loaded.bundle, no_prices))
    return [spec.to_wire() for spec in plan.table]


def _offer(front: Child, offered: Generation) -> None:
    loaded = offered.loaded
    front.tell(control.BUNDLE, offered.number, loaded.text, offered.loaded_at, loaded.jwks)


async def _all(children: Sequence[Child], done: Callable[[Child], bool], seconds: float) -> bool:
    """Wait until every child is done; False if that takes too long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not all(done(child) for child in children):
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(0.005)
    return True
