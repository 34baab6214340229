"""The stored counters as they are at one moment: the database, and on top what is only in logs yet.

It works beside a running daemon. The log is read first and the database after it: a segment that is
folded in between is in both, and the database says so; one whose file is gone by then is in the
database.
"""

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from protocol.operations import Key, Kind
from protocol.placement import home, placement
from shard.algorithms.registry import AnyLimiter
from shard.stores import database
from shard.stores.database import Part, Row
from shard.stores.folder import Segment, StateError, StateFolder
from shard.stores.image import Image, Kept, State, StoredRule
from shard.stores.schema import NewerDatabaseError, is_of_the_disk, read_database
from shard.stores.segments import SegmentText, UnreadableSegmentError, read_segment

EVERYTHING = Part(0, 1)


@dataclass(frozen=True, slots=True)
class Stretch:
    """What the log of one shard in one run of the daemon comes to."""

    part: Part
    image: Image

    def holds(self, placed: int) -> bool:
        """Return whether a counter with this placement hash was that shard's."""
        return placed % self.part.shards == self.part.shard


@dataclass(slots=True)
class View:
    """One moment of a state folder. `problems` says what could not be read, a line each."""

    connection: sqlite3.Connection | None
    stretches: list[Stretch]
    problems: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Let go of the moment."""
        if self.connection is not None:
            self.connection.close()

    def newest(self) -> int:
        """Return the latest stamp there is, in microseconds since the epoch; 0 if there is none.

        Raises:
            sqlite3.Error: the database cannot be read.
        """
        stored = 0 if self.connection is None else database.newest(self.connection)
        return max([stored, *(each.image.newest for each in self.stretches)])

    def rules(self) -> dict[str, StoredRule]:
        """Return the rules that have, or have had, stored counters, by identity."""
        found = {}
        if self.connection is not None:
            found = {name: rule for name, (_, rule) in database.rules(self.connection).items()}
        for stretch in self.stretches:
            found |= stretch.image.rules
        return found

    def counters(self, identity: str, rule: StoredRule, part: Part, now: int) -> Iterator[Row]:
        """Return a rule's counters that belong to one shard and still count at `now`.

        Raises:
            ValueError, TypeError, KeyError: something holds what no limiter has written.
            sqlite3.Error: the database cannot be read.
        """
        limiter = rule.limiter(identity)
        stretches = [each for each in self.stretches if identity in each.image.counters]
        changed: dict[Key, None] = {}  # in order: two looks at one state list it alike
        for stretch in stretches:
            changed.update(dict.fromkeys(stretch.image.counters[identity]))
        replaced = [each for each in self.stretches if each.image.complete] + [
            each for each in stretches if identity in each.image.forgotten
        ]
        for row in self._rows(identity, rule.kind, part, now):
            if row.key in changed:
                continue
            placed = home(rule.kind, row.key) if replaced else 0
            if not any(stretch.holds(placed) for stretch in replaced):
                yield row
        before = self._states(identity, rule.kind, changed)
        for key in changed:
            placed = home(rule.kind, key)
            if placed % part.shards == part.shard:
                latest = _latest(identity, key, before.get(key), self.stretches, placed, limiter)
                if latest is not None and (latest.expires_us is None or latest.expires_us > now):
                    yield latest

    def reservations(self, part: Part) -> dict[bytes, Kept]:
        """Return the open reservations' entries that belong to one shard, the oldest first.

        Raises:
            ValueError: something holds what no shard has written.
            sqlite3.Error: the database cannot be read.
        """
        entries: dict[bytes, dict[int, Kept]] = {}
        if self.connection is not None:
            for rid, kept in database.reservations(self.connection, EVERYTHING).items():
                entries[rid] = {-1: kept}
        for number, stretch in enumerate(self.stretches):
            if stretch.image.complete:
                entries = {rid: _without(held, stretch) for rid, held in entries.items()}
            for rid, changed in stretch.image.reservations.items():
                held = _without(entries.get(rid, {}), stretch)
                if changed is not None:
                    held[number] = changed
                entries[rid] = held
        found = {}
        for rid, held in entries.items():
            own = [
                entry
                for kept in held.values()
                for entry in kept.entries
                if placement(entry[1]) % part.shards == part.shard
            ]
            if own:
                found[rid] = Kept(min(kept.charged_at for kept in held.values()), tuple(own))
        return dict(sorted(found.items(), key=lambda item: item[1].charged_at))

    def _rows(self, identity: str, kind: Kind, part: Part, now: int) -> Iterator[Row]:
        number = self._number(identity)
        if number is not None and self.connection is not None:
            yield from database.counters(self.connection, number, kind, part, now)

    def _states(self, identity: str, kind: Kind, keys: Collection[Key]) -> dict[Key, Row]:
        """Return rows of some keys, expired ones too: a loop's history may go on."""
        number = self._number(identity)
        if number is None or self.connection is None or not keys or kind != "loop":
            return {}  # nothing but a loop's change builds on what was before
        rows = database.counters(self.connection, number, kind, EVERYTHING, 0)
        return {row.key: row for row in rows if row.key in keys}

    def _number(self, identity: str) -> int | None:
        if self.connection is None:
            return None
        found = database.rules(self.connection).get(identity)
        return None if found is None else found[0]


def _without(held: dict[int, Kept], stretch: Stretch) -> dict[int, Kept]:
    """Return the parts of a reservation without what one shard held of it."""
    kept = {}
    for number, each in held.items():
        entries = tuple(entry for entry in each.entries if not stretch.holds(placement(entry[1])))
        if entries:
            kept[number] = each._replace(entries=entries)
    return kept


def _latest(  # noqa: PLR0913 - one counter and everything that may have been said of it
    identity: str,
    key: Key,
    row: Row | None,
    stretches: list[Stretch],
    placed: int,
    limiter: AnyLimiter,
) -> Row | None:
    state: State | None = row.state if row else None
    stamp = row.updated_us if row else 0
    for stretch in stretches:
        if stretch.holds(placed):
            state = stretch.image.state(identity, key, state)
            written = stretch.image.counters.get(identity, {}).get(key)
            stamp = written[0] if written else stamp
    return None if state is None else Row(key, state, stamp, limiter.idle_at(state))


def read_view(folder: StateFolder, wanted: Callable[[Segment], bool]) -> View:
    """Return what is stored now; of the log only the segments that are `wanted`.

    What makes no sense is left out and told; what the disk does not give now may be there later.

    Raises:
        NewerDatabaseError: a newer version has written it.
        StateError: the disk cannot be read.
    """
    problems: list[str] = []
    texts = []
    for segment in folder.segments():
        if wanted(segment):
            text = _read(folder, segment, problems)
            if text is not None:
                texts.append(text)
    connection = None
    folded: set[str] = set()
    if folder.database.exists():
        try:
            connection = read_database(folder.database)
            folded = database.folded(connection)
        except NewerDatabaseError:
            raise
        except sqlite3.Error as error:
            problems.append(unreadable(folder, error))
    stretches: dict[tuple[int, int], Stretch] = {}
    for text in texts:
        segment = text.segment
        if segment.name in folded:
            continue
        stretch = stretches.setdefault(
            (segment.run, segment.shard), Stretch(Part(segment.shard, text.shards), Image())
        )
        try:
            stretch.image.add(text.records)
        except ValueError as error:
            problems.append(f"{folder.file(segment)}: {error}")
    return View(connection, [stretches[each] for each in sorted(stretches)], problems)


def unreadable(folder: StateFolder, error: Exception) -> str:
    """Return what to tell of a database that makes no sense.

    Raises:
        StateError: it is the disk that could not be read.
    """
    problem = f"{folder.database} cannot be read: {error}"
    if is_of_the_disk(error):
        raise StateError(problem) from None
    return problem


def _read(folder: StateFolder, segment: Segment, problems: list[str]) -> SegmentText | None:
    for done in (segment.done, not segment.done):
        path = folder.file(replace(segment, done=done))
        with suppress(FileNotFoundError):
            try:
                return read_segment(path, segment)
            except FileNotFoundError:
                raise
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                raise StateError(f"{path} cannot be read: {reason}") from None
            except UnreadableSegmentError as error:
                problems.append(f"{path} cannot be read: {error}")
                return None
    return None
