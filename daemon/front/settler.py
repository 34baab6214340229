"""Settling what exchanges reserved, each time until every shard concerned has heard (§11.2).

Rules
- A shard settles a reservation at most once and answers None afterwards, so asking again is safe:
  a shard that is silent, or whose link is down, is asked until it answers.
- A late answer is as good as one in time.
- What waits is bounded, in number and in tries. A settlement that is given up is counted and
  logged; its reservation stays charged, which is the safe side.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import msgspec

from daemon.engine.settlement import Settlement, settlement_of
from daemon.front.links import Link
from protocol.operations import Wire
from protocol.usage import UNKNOWN, Usage

log = logging.getLogger("fairvisor")

MAX_RETRYING: Final = 10_000
"""Settlements of one front that may wait for another try."""
MAX_TRIES: Final = 40
FIRST_RETRY: Final = 0.05
LONGEST_RETRY: Final = 5.0
"""Seconds. All tries together take about three minutes: a shard is long back by then."""

_QUIET_SECONDS: Final = 60.0

Outcome = Literal["used", "returned", "kept", "unknown", "lost"]
"""How a reservation ended: by what was used, given back, as estimated because the usage is not
known, nowhere to be found (expired, or its shard forgot it), or undelivered."""


class Settled(msgspec.Struct, frozen=True):
    """One exchange's settlement: [number, identity, reserved, actual] by rule, and how it ended.

    `why` says what kept the usage from being known, "" where it is known; `model` is the tag of the
    model where a rule learns from it.
    """

    outcome: Outcome
    entries: Sequence[list[Any]]
    usage: Usage | None
    why: str = ""
    model: bytes = b""


Done = Callable[[Settled], None]
Later = Callable[[float, Callable[[], None]], object]


class Settler:
    """Settles for all exchanges of a front. `later` calls back after so many seconds."""

    def __init__(self, links: list[Link], later: Later, done: Done) -> None:
        self.links = links
        self.later = later
        self.done = done
        self.retrying = 0
        self.open = 0
        """Settlements that have not been answered."""
        self._idle: asyncio.Event | None = None
        self._quiet_until = 0.0

    def settle(self, reservation: str, usage: Usage | None, why: str = "") -> None:
        """Settle with what was used, None to give all back; with `why` it is not known."""
        settlement = settlement_of(reservation, UNKNOWN if why else usage)
        _Settling(self, settlement, why).ask()

    def say_lost(self) -> None:
        """Log that reservations stay charged, once in a while: each is counted."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET_SECONDS
            log.warning("a reservation stays charged: its counters' owner is away")

    async def idle(self, seconds: float) -> None:
        """Wait until every settlement has been answered, but no longer than `seconds`."""
        self._idle = asyncio.Event()
        if not self.open:
            return
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            log.warning("%d reservations stay charged: their counters' owner is away", self.open)

    def ended(self, settled: Settled) -> None:
        """Tell how a settlement ended."""
        self.open -= 1
        if self._idle is not None and not self.open:
            self._idle.set()
        self.done(settled)


class _Settling:
    """Owner of the shards' replies to one settlement."""

    __slots__ = ("_delay", "_entries", "_found", "_settlement", "_settler", "_tries", "_waiting",
                 "_waits", "_why")  # fmt: skip

    def __init__(self, settler: Settler, settlement: Settlement, why: str) -> None:
        self._settler = settler
        self._settlement = settlement
        self._why = why
        self._waiting = {place % len(settler.links) for place in settlement.placements}
        self._entries: list[list[Any]] = []
        self._found = False
        self._tries = 0
        self._delay = FIRST_RETRY
        self._waits = False
        settler.open += 1

    def ask(self) -> None:
        """Ask every shard that has not answered."""
        if self._waits:
            self._waits = False
            self._settler.retrying -= 1
        self._tries += 1
        settlement, links = self._settlement, self._settler.links
        usage = settlement.usage
        wire = None if usage is None else usage.to_wire()
        for shard in tuple(self._waiting):
            links[shard].settle(settlement.reservation, wire, self)

    def reply(self, shard: int, _charged_at: int, reply: Wire) -> None:
        """Take one shard's entries, None if it holds nothing."""
        waited = shard in self._waiting
        if reply is not None:
            self._found = True
            self._entries += reply
        self._waiting.discard(shard)
        if waited and not self._waiting:
            self._finish()

    def late(self, shard: int, charged_at: int, reply: Wire) -> None:
        """Take a reply after its time, which is as good."""
        self.reply(shard, charged_at, reply)

    def unavailable(self, _shard: int) -> None:
        """Ask again in a while, unless it has been too often."""
        if self._waits or not self._waiting:
            return
        settler = self._settler
        if self._tries >= MAX_TRIES or settler.retrying >= MAX_RETRYING:
            settler.say_lost()
            self._waiting.clear()
            self._end("lost")
            return
        self._waits = True
        settler.retrying += 1
        settler.later(self._delay, self.ask)
        self._delay = min(self._delay * 2, LONGEST_RETRY)

    def _finish(self) -> None:
        if not self._found:
            self._end("unknown")
        elif self._why:
            self._end("kept")
        else:
            self._end("returned" if self._settlement.usage is None else "used")

    def _end(self, outcome: Outcome) -> None:
        settlement = self._settlement
        usage = None if self._why else settlement.usage
        self._settler.ended(Settled(outcome, self._entries, usage, self._why, settlement.model))
