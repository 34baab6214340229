"""One settlement on its way: asks the shards that may hold it, answers once (§7.5)."""

from collections.abc import Callable
from typing import Any

from daemon.engine.settlement import Settlement
from daemon.front.links import Link
from protocol.operations import Wire

Count = Callable[[list[list[Any]]], None]
"""Called with [number, identity, reserved, actual] by rule, also when they come too late."""

Done = Callable[[bool, bool], None]
"""Called with: found, whether a shard is silent."""


class Settling:
    """Owner of the shards' replies to one settlement."""

    __slots__ = ("_count", "_done", "_entries", "_found", "_lost", "_waiting")

    def __init__(self, done: Done, count: Count) -> None:
        self._done = done
        self._count = count
        self._entries: list[list[Any]] = []
        self._found = False
        self._lost = False
        self._waiting = 0

    def ask(self, settlement: Settlement, links: list[Link]) -> None:
        """Ask every shard that may hold a part of the reservation."""
        shards = {place % len(links) for place in settlement.placements}
        self._waiting = len(shards)
        wire = settlement.usage.to_wire() if settlement.usage else None
        for shard in shards:
            links[shard].settle(settlement.reservation, wire, self)
        if not shards:
            self._done(False, False)  # noqa: FBT003 - a callback's words are in its type

    def reply(self, _shard: int, _charged_at: int, reply: Wire) -> None:
        """Take one shard's entries, None if it holds nothing."""
        if reply is not None:
            self._found = True
            self._entries += reply
        self._one_less()

    def late(self, _shard: int, _charged_at: int, reply: Wire) -> None:
        """Count a reply after its time: the answer has gone, and the settlement is done."""
        if reply is not None:
            self._count(reply)

    def unavailable(self, _shard: int) -> None:
        """Go on without a shard."""
        self._lost = True
        self._one_less()

    def _one_less(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            if self._found:
                self._count(self._entries)
            self._done(self._found, self._lost)
