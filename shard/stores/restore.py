"""A shard's counters and reservations, brought back before it answers (behaviour §13.1, §13.5).

Limits may have changed since: a state is taken over whatever the limit has become, as a reload
does. A rule that is not in the bundle any more leaves its counters where they are, until they
expire. What would be fresh by now is left out.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import msgspec

from protocol.operations import RuleSpec
from shard.algorithms.registry import build
from shard.caution import CautiousClock
from shard.reservations import Held
from shard.service import ShardService
from shard.stores.database import Part
from shard.stores.folder import Segment, StateFolder
from shard.stores.image import StoredRule
from shard.stores.link_tails import LinkTail
from shard.stores.schema import NewerDatabaseError
from shard.stores.view import View, read_view, unreadable
from shard.tables import CounterTable

_STEP = 1000
_SWEEP = 4000
_UNREADABLE = (ValueError, TypeError, KeyError, sqlite3.Error)
Tell = Callable[[str, str], None]
"""Called with a log level and a line for the operator."""


class StoreOrders(msgspec.Struct, frozen=True):
    """What the supervisor says to a shard about its store."""

    folder: str
    durability: Literal["crash", "power"]
    run: int
    shards: int
    life: int


@dataclass(frozen=True, slots=True)
class Place:
    """Which life of which shard this is. Lives of one shard in one run follow each other."""

    run: int
    shard: int
    shards: int
    life: int


@dataclass(frozen=True, slots=True)
class Restored:
    """What a store knows beside counters: of the fronts' links, and its newest stamp (or 0)."""

    links: dict[bytes, LinkTail]
    newest: int


def restore(  # noqa: PLR0913 - from where to where, when, and whom to tell
    folder: StateFolder,
    place: Place,
    service: ShardService,
    now: int,
    tell: Tell,
    alive: Callable[[], None] = lambda: None,
) -> Restored:
    """Fill a service that has its rule tables.

    `now` is in microseconds since the epoch: what would be fresh by then is left out, unless the
    clock may be wrong (`shard.caution`). What makes no sense is told and left out. `alive` is
    called now and then, for this may take long.

    Raises:
        StateError: the disk cannot be read. Counters that begin anew would be written over those
            that are there.
    """
    try:
        view = read_view(folder, partial(_is_of, place, alive))
    except NewerDatabaseError as error:
        tell("error", f"{folder.database} is left alone: {error}")
        return Restored({}, 0)
    newest = 0
    try:
        with _left_out(folder, "the newest stamp", tell):
            newest = view.newest()
        now = CautiousClock(newest, 0).at(now, 0)
        for problem in view.problems:
            tell("error", problem)
        tables = {table.identity: table for table in service.tables}
        part = Part(place.shard, place.shards)
        stored: dict[str, StoredRule] = {}
        with _left_out(folder, "rules", tell):
            stored = view.rules()
        for identity, table in tables.items():
            rule = stored.get(identity)
            if rule is not None:
                with _left_out(folder, f"counters of {identity!r}", tell):
                    _refill(view, part, table, rule, service, now, alive)
        with _left_out(folder, "reservations", tell):
            _hold(view, part, tables, service, now)
    finally:
        view.close()
    for segment in folder.segments():
        if segment.run == place.run and segment.shard == place.shard and not segment.done:
            # nobody writes there any more: it is ready to be folded
            with suppress(OSError):
                folder.file(segment).rename(folder.file(replace(segment, done=True)))
    links = {link: tail for each in view.stretches for link, tail in each.image.links.items()}
    return Restored(links, newest)


@contextmanager
def _left_out(folder: StateFolder, what: str, tell: Tell) -> Iterator[None]:
    """Tell of what makes no sense and go on without the rest of it.

    Raises:
        StateError: it is the disk that could not be read.
    """
    try:
        yield
    except _UNREADABLE as error:
        tell("error", f"{unreadable(folder, error)}; left out: {what}")


def _is_of(place: Place, alive: Callable[[], None], segment: Segment) -> bool:
    """Return whether a segment may hold something of this shard's; say that it is being read.

    Earlier runs may have had another number of shards. The other shards of this run have counters
    of their own.
    """
    alive()
    return segment.run < place.run or (segment.run == place.run and segment.shard == place.shard)


def _refill(  # noqa: PLR0913 - from where to where
    view: View,
    part: Part,
    table: CounterTable,
    rule: StoredRule,
    service: ShardService,
    now: int,
    alive: Callable[[], None],
) -> None:
    spec = table.counters.spec
    if rule.kind != spec.kind:
        return
    idle_at = build(RuleSpec(spec.kind, spec.identity, 0, shadow=False, params=spec.params)).idle_at
    store = service.store
    count = 0
    for row in view.counters(table.identity, rule, part, now):
        idle = idle_at(row.state)
        if idle is not None and idle <= now:
            continue
        table.add(row.key, row.state, row.updated_us)
        count += 1
        if count % _STEP == 0:
            alive()
            if store.bytes > store.max_bytes:
                store.sweep(now, _SWEEP)


def _hold(
    view: View,
    part: Part,
    tables: dict[str, CounterTable],
    service: ShardService,
    now: int,
) -> None:
    found = view.reservations(part)
    for rid, kept in found.items():
        entries = tuple(
            (tables[identity], key, cost)
            for identity, key, cost in kept.entries
            if identity in tables
        )
        if entries:
            service.reservations.put(rid, Held(entries, kept.charged_at))
    service.reservations.expire(now, len(found))
