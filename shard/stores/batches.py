"""What a record of a shard's log says, from the changes of a batch and back.

    [stamp, mark, rules, forgotten, counters, reservations, links]

    stamp         microseconds since the epoch
    mark          MARK_NONE, MARK_BEGIN or MARK_END: a snapshot of everything starts or is complete
    rules         [[slot, kind, identity, parameters], ...]: what slots of this segment stand for,
                  again whenever the parameters have changed
    forgotten     [slot, ...]: every counter of these is gone; comes before `counters`
    counters      [slot, key, state, slot, key, state, ...], flat
    reservations  [[id, charged_at, [slot, key, cost, ...]] or [id], ...]; the latter is settled
    links         [link, applied, replied, replies, ...], flat: how many frames of a front's link
                  were applied and replied to, and the replies of this batch

A state is what its limiter holds, None when the counter is gone, and [[time, ...]] for hits to be
added to a loop's history.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from protocol.operations import Key, Kind, RuleSpec
from shard.algorithms.limiter import Param
from shard.changes import Changes, Owner
from shard.reservations import Held
from shard.transaction import Entry

MARK_NONE, MARK_BEGIN, MARK_END = 0, 1, 2

State = Any
"""A limiter's state as it came off the disk: integers in a list."""
HeldFor = Mapping[bytes, Held[Entry]]


class Batch(NamedTuple):
    """One record, checked."""

    stamp: int
    mark: int
    rules: list[tuple[int, Kind, str, dict[str, Param]]]
    forgotten: list[int]
    counters: list[Any]
    reservations: list[Any]
    links: list[Any]


class BatchWriter:
    """Turns changes into bodies of records. One per segment: it knows what the segment defines."""

    __slots__ = ("_defined",)

    def __init__(self) -> None:
        self._defined: dict[int, RuleSpec] = {}

    def body(
        self,
        changes: Changes,
        held: HeldFor,
        stamp: int,
        links: list[object],
        mark: int = MARK_NONE,
    ) -> list[object]:
        """Return the body that says what has changed; `held` are the reservations that remain."""
        rules: list[object] = []
        defined = self._defined
        forgotten = []
        for owner in changes.forgotten:
            self._define(owner, rules)
            forgotten.append(owner.slot)
        counters: list[object] = []
        for owner, key in changes.counters:
            if owner.dead:
                continue
            if defined.get(owner.slot) is not owner.spec:
                self._define(owner, rules)
            counters += (owner.slot, key, owner.states.get(key))
        for (owner, key), count in changes.hits.items():
            if owner.dead or (owner, key) in changes.counters:
                continue
            if defined.get(owner.slot) is not owner.spec:
                self._define(owner, rules)
            counters += (owner.slot, key, _last(owner.states.get(key), count))
        reservations = [self._reservation(rid, held, rules) for rid in changes.reservations]
        return [stamp, mark, rules, forgotten, counters, reservations, links]

    def _define(self, owner: Owner, rules: list[object]) -> None:
        spec = owner.spec
        self._defined[owner.slot] = spec
        rules.append([owner.slot, spec.kind, spec.identity, spec.params])

    def _reservation(self, rid: bytes, held: HeldFor, rules: list[object]) -> list[object]:
        found = held.get(rid)
        if found is None:
            return [rid]
        entries: list[object] = []
        for table, key, cost in found.entries:
            if self._defined.get(table.counters.slot) is not table.counters.spec:
                self._define(table.counters, rules)
            entries += (table.counters.slot, key, cost)
        return [rid, found.charged_at, entries]


def _last(history: State, count: int) -> object:
    """Return the newest hits of a history, or all of one that has become short or is gone."""
    if not isinstance(history, deque) or count >= len(history):
        return history
    return [list(islice(reversed(history), count))[::-1]]


def batch(body: list[object]) -> Batch:
    """Return what a record says.

    Raises:
        msgspec.ValidationError: it is not a batch.
    """
    return msgspec.convert(body, Batch)


def fours(flat: Iterable[Any]) -> Iterable[tuple[bytes, int, int, bytes]]:
    """Return a flat list of links four by four.

    Raises:
        ValueError: it does not come out even.
    """
    items = iter(flat)
    return zip(items, items, items, items, strict=True)


def triples(flat: Iterable[Any]) -> Iterable[tuple[int, Key, Any]]:
    """Return a flat list three by three.

    Raises:
        ValueError: it does not come out even.
    """
    items = iter(flat)
    return zip(items, items, items, strict=True)
