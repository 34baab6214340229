"""Looks after the children: who hangs is replaced, who keeps ending is told of once (§13.3)."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from daemon.supervisor.children import Child
from daemon.supervisor.endings import LOOP_ENDS, LOOP_SECONDS, MAX_BACKOFF
from daemon.supervisor.family import Family
from daemon.supervisor.metrics import Totals
from daemon.supervisor.readiness import READY, Standing, reason
from daemon.supervisor.watchdog import Watchdog
from protocol import control
from protocol.bundle import Bundle

log = logging.getLogger("fairvisor")


class Oversight:
    """The look at all children again and again. `busy`: whether a new bundle is being compiled.

    `seconds` is how long a child may be silent, 0 for ever. `turned` is called when the daemon
    becomes ready or ceases to be.
    """

    def __init__(
        self,
        family: Family,
        seconds: float,
        busy: Callable[[], bool],
        turned: Callable[[], None],
    ) -> None:
        self.reason = READY
        """Why the daemon is not ready, as fronts were told last."""
        self._family = family
        self._busy = busy
        self._turned = turned
        self._watchdog: Watchdog[Child] = Watchdog(seconds)
        self._looping: set[Child] = set()
        self.hung: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()

    @property
    def serving(self) -> bool:
        """Whether any front can answer."""
        return any(front.ready for front in self._family.fronts)

    def status(self, bundle: Bundle) -> str:
        """Return how the daemon is, for people."""
        family = self._family
        return (
            f"{f'not ready: {self.reason}; ' if self.reason else ''}"
            f"bundle version {bundle.version} with {len(bundle.policies)} policies,"
            f" {family.http_fronts} front(s), {len(family.shards)} shard(s)"
        )

    async def regularly(self) -> None:
        """Look, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self._look(loop.time())
            await asyncio.sleep(self._watchdog.nap)

    def heard(self, child: Child) -> None:
        """Hear that a child says something."""
        self._watchdog.heard(child)

    def greet(self, front: Child) -> None:
        """Tell a front that was just started how the daemon is."""
        front.tell(control.READINESS, self.reason)

    def ended(self, child: Child, how: str) -> None:
        """Tell of a child's end, and count it; ends of one that loops are told of once."""
        self._watchdog.heard(child)
        self.restarts[child.kind] += 1
        if not child.proven:  # told of when it is given up
            log.debug("%s ended (%s); starting it again", child.name, how)
        elif not child.endings.looping:
            self._looping.discard(child)
            log.warning("%s ended (%s); starting it again", child.name, how)
        elif child not in self._looping:
            self._looping.add(child)
            log.error(
                "%s keeps ending: %d times within %d s, at last with %s; starting it every %d s",
                child.name,
                LOOP_ENDS,
                LOOP_SECONDS,
                ": ".join(filter(None, (how, child.last_words))),
                MAX_BACKOFF,
            )

    def failed(self, child: Child, traceback: str) -> None:
        """Tell why a child ends by itself, unless it has been told often enough."""
        if (child.proven or child.ready) and child not in self._looping:
            log.error("%s failed: %s", child.name, traceback)

    def add_figures(self, totals: Totals) -> None:
        """Add what is known of the processes to the metrics."""
        for kind in dict.fromkeys(child.kind for child in self._family.all):
            looping = sum(child.kind == kind for child in self._looping)
            totals.set("process_restarts_total", self.restarts[kind], (kind,))
            totals.set("process_hung_total", self.hung[kind], (kind,))
            totals.set("process_crash_looping", looping, (kind,))

    def _look(self, now: float) -> None:
        family = self._family
        for child in tuple(self._looping):
            if child.ready and child.endings.calm(now - child.born):
                self._looping.discard(child)
                log.warning("%s has been well for %d s", child.name, LOOP_SECONDS)
        self._tell_fronts(now)
        compiling = self._busy()
        slow = set(family.keepers)
        running = [
            (child, compiling or not child.ready or child in slow)
            for child in family.all
            if child.pid is not None
        ]
        ask, hung = self._watchdog.look(now, running)
        for child in ask:
            child.tell(control.PING)
        for child in hung:
            self.hung[child.kind] += 1
            child.last_words = "it did not answer"
            log.error("%s does not answer; replacing it", child.name)
            child.kill()

    def _tell_fronts(self, now: float) -> None:
        fronts = self._family.fronts
        why = reason(
            [self._standing(each, now) for each in self._family.shards],
            [self._standing(each, now) for each in fronts],
        )
        if why == self.reason:
            return
        self.reason = why
        if why:
            log.error("not ready: %s", why)
        else:
            log.warning("ready again")
        for front in fronts:
            self.greet(front)
        self._turned()

    def _standing(self, child: Child, now: float) -> Standing:
        return Standing(0.0 if child.ready else now - child.since, child.endings.looping)
