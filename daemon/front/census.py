"""What a front counts of its clients: who was turned away, refused or dropped, and bodies held."""

import logging
from collections.abc import Callable

from daemon.front.rate_limited_log import RateLimitedLog
from daemon.front.tally import Tally
from daemon.front.trace import place

_FIX = {
    "listener": "FAIRVISOR_MAX_CONNECTIONS is reached",
    "peer": "it has FAIRVISOR_MAX_CONNECTIONS_PER_PEER open; if it is your gateway, add its "
    "address to FAIRVISOR_TRUSTED_PROXIES",
}


class ClientCensus:
    """One front's. `max_bodies` bounds the bytes of all bodies; `clock` is in steady seconds."""

    def __init__(
        self, tally: Tally, log: RateLimitedLog, clock: Callable[[], float], max_bodies: int
    ) -> None:
        self.bodies = 0
        self._tally = tally
        self._log = log
        self._clock = clock
        self._max_bodies = max_bodies

    def turned_away(self, reason: str, peer: str) -> None:
        """Count a connection that is one too many, and say what to do."""
        self._tally.add("connections_refused_total", (reason,))
        key = peer if reason == "peer" else ""
        message = "refused a connection from %s: %s"
        sender = peer or "a Unix socket"
        self._log.say(reason, key, self._clock(), logging.WARNING, message, sender, _FIX[reason])

    def refused(self, why: str) -> None:
        """Count bytes that were answered without being a request."""
        self._tally.add("requests_refused_total", (why,))

    def closed(self, why: str) -> None:
        """Count a connection that used up its time."""
        self._tally.add("connections_closed_total", (why,))

    def failed(self, error: Exception) -> None:
        """Count and log a request that could not be handled; its text may quote the request."""
        kind = type(error).__name__
        self._tally.add("evaluate_errors_total", (kind,))
        message = "a request could not be handled: %s at %s"
        where = place(error)
        self._log.say("failed", kind, self._clock(), logging.ERROR, message, kind, where)

    def keep(self, size: int) -> bool:
        """Set memory aside for a body; return False if there is none left."""
        bodies = self.bodies + size
        if bodies > self._max_bodies:
            return False
        self.bodies = bodies
        return True

    def let_go(self, size: int) -> None:
        """Give such memory back."""
        self.bodies -= size


class Uncounted:
    """For listeners whose connections nobody counts: the admin socket's."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def failed(self, error: Exception) -> None:
        """Log a request that could not be handled."""
        kind = type(error).__name__
        self._log.error("an admin call could not be handled: %s at %s", kind, place(error))

    def turned_away(self, reason: str, peer: str) -> None:
        """Count nothing."""

    def refused(self, why: str) -> None:
        """Count nothing."""

    def closed(self, why: str) -> None:
        """Count nothing."""

    def keep(self, _size: int) -> bool:
        """Set no limit beside that of a body."""
        return True

    def let_go(self, size: int) -> None:
        """Count nothing."""
