"""The database's rows: what a stretch of a log changes in them, and what a shard reads of them.

Rules
- One process writes: the keeper while a daemon runs, a command that holds the lock otherwise.
- A stretch of a shard's log is applied in one transaction that also notes which segments it was:
  a segment counts once, whatever is killed when. Its file goes after the commit has been synced.
- A row carries its placement hash, so that the counters of any number of shards can be told apart
  without moving a row.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from protocol.counter_names import CounterName, read_counter_name
from protocol.operations import Key, Kind
from protocol.placement import home, placement
from shard.stores.image import Image, Kept, Later, State, StoredRule, Written, checked, is_state
from shard.stores.schema import transaction

_SURROGATES = b"text with lone surrogates:"


class Row(NamedTuple):
    """One stored counter; times in microseconds since the epoch."""

    key: Key
    state: State
    updated_us: int
    expires_us: int | None


@dataclass(frozen=True, slots=True)
class Part:
    """The counters of one of several shards."""

    shard: int
    shards: int


def next_run(connection: sqlite3.Connection, at_least: int) -> int:
    """Return the number of a new run of the daemon; never one that was used before."""
    with transaction(connection):
        row = connection.execute("SELECT value FROM about WHERE name = 'run'").fetchone()
        run = max(at_least, (row[0] if row else 0) + 1)
        connection.execute("INSERT OR REPLACE INTO about VALUES ('run', ?)", (run,))
    return int(run)


def folded(connection: sqlite3.Connection) -> set[str]:
    """Return the names of segments that are part of the database already."""
    return {name for (name,) in connection.execute("SELECT segment FROM folded")}


def fold(connection: sqlite3.Connection, image: Image, part: Part, segments: Iterable[str]) -> int:
    """Apply a stretch of a shard's log; within a transaction of the caller's.

    Returns how many counters were left out because no limiter understands their state.
    """
    own = (part.shards, part.shard)
    if image.complete:
        connection.execute("DELETE FROM counters WHERE placement % ? = ?", own)
        connection.execute("DELETE FROM reservations WHERE placement % ? = ?", own)
    numbers = {
        identity: _rule_number(connection, identity, rule) for identity, rule in image.rules.items()
    }
    for identity in image.forgotten:
        rule = (numbers[identity], *own)
        connection.execute("DELETE FROM counters WHERE rule = ? AND placement % ? = ?", rule)
    if image.newest:
        connection.execute("INSERT OR REPLACE INTO about VALUES ('newest', ?)", (image.newest,))
    left_out = 0
    for identity, counters in image.counters.items():
        left_out += _fold_rule(connection, image, identity, numbers[identity], counters)
    for rid, kept in image.reservations.items():
        connection.execute(
            "DELETE FROM reservations WHERE id = ? AND placement % ? = ?", (rid, *own)
        )
        if kept is not None:
            connection.executemany(
                "INSERT OR REPLACE INTO reservations VALUES (?, ?, ?, ?, ?, ?)",
                _reservation_rows(rid, kept, numbers),
            )
    connection.executemany(
        "INSERT OR IGNORE INTO folded VALUES (?)", ((name,) for name in segments)
    )
    return left_out


def _fold_rule(
    connection: sqlite3.Connection,
    image: Image,
    identity: str,
    number: int,
    counters: Mapping[Key, Written],
) -> int:
    kind = image.rules[identity].kind
    idle_at = image.rules[identity].limiter(identity).idle_at
    stored: list[tuple[object, ...]] = []
    digests: list[tuple[object, ...]] = []
    gone, left_out = [], 0
    for key, (stamp, state) in counters.items():
        cell = _cell(key)
        if isinstance(state, Later):
            before = _state_of(connection, number, cell)
            found = image.state(identity, key, before)
            state = None if found is None else list(found)  # noqa: PLW2901 - what it comes to
        if state is None:
            gone.append((number, cell))
        elif is_state(kind, state):
            row = (number, cell, repr(state), home(kind, key), stamp, idle_at(state))
            (stored if isinstance(cell, str) else digests).append(row)
        else:
            left_out += 1
    connection.executemany("DELETE FROM counters WHERE rule = ? AND key = ?", gone)
    for rows in (stored, digests):
        # in the order of the table's own tree: random pages cost three times as much
        rows.sort(key=itemgetter(1))
        connection.executemany("INSERT OR REPLACE INTO counters VALUES (?, ?, ?, ?, ?, ?)", rows)
    return left_out


def _reservation_rows(
    rid: bytes, kept: Kept, numbers: Mapping[str, int]
) -> Iterator[tuple[object, ...]]:
    for identity, key, cost in kept.entries:
        yield (
            rid,
            numbers[identity],
            _cell(key),
            placement(key),
            kept.charged_at,
            json.dumps(cost),
        )


def _rule_number(connection: sqlite3.Connection, identity: str, rule: StoredRule) -> int:
    cell = _cell(identity)
    parameters = json.dumps(rule.params)
    row = connection.execute(
        "SELECT id, parameters FROM rules WHERE identity = ?", (cell,)
    ).fetchone()
    if row is not None:
        if row[1] != parameters:
            connection.execute("UPDATE rules SET parameters = ? WHERE id = ?", (parameters, row[0]))
        return int(row[0])
    name = named(identity)
    cursor = connection.execute(
        "INSERT INTO rules VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
        (
            cell,
            name.mode,
            _readable(name.policy),
            _readable(name.rule),
            rule.kind,
            _readable(" ".join(name.limit_keys)),
            parameters,
        ),
    )
    return int(cursor.lastrowid or 0)


def rules(connection: sqlite3.Connection) -> dict[str, tuple[int, StoredRule]]:
    """Return the rules that were ever stored, by identity, with their numbers."""
    rows = connection.execute("SELECT id, identity, algorithm, parameters FROM rules")
    return {
        str(_key(identity)): (number, StoredRule(kind, json.loads(parameters)))
        for number, identity, kind, parameters in rows
    }


def counters(
    connection: sqlite3.Connection, number: int, kind: Kind, part: Part, now: int
) -> Iterator[Row]:
    """Return a rule's counters that belong to one shard and still count at `now`.

    Raises:
        ValueError, TypeError: a row holds what no limiter has written.
    """
    rows = connection.execute(
        "SELECT key, state, updated_us, expires_us FROM counters"
        " WHERE rule = ? AND placement % ? = ? AND (expires_us IS NULL OR expires_us > ?)",
        (number, part.shards, part.shard, now),
    )
    for cell, text, updated_us, expires_us in rows:
        yield Row(_key(cell), checked(kind, json.loads(text)), updated_us, expires_us)


def reservations(connection: sqlite3.Connection, part: Part) -> dict[bytes, Kept]:
    """Return the reservations that belong to one shard, the oldest first."""
    rows = connection.execute(
        "SELECT reservations.id, identity, key, charged_us, cost FROM reservations"
        " JOIN rules ON rules.id = reservations.rule WHERE placement % ? = ? ORDER BY charged_us",
        (part.shards, part.shard),
    )
    found: dict[bytes, Kept] = {}
    for rid, identity, cell, charged_at, cost in rows:
        entry = (str(_key(identity)), _key(cell), json.loads(cost))
        before = found.get(rid)
        found[rid] = Kept(charged_at, (*(before.entries if before else ()), entry))
    return found


def newest(connection: sqlite3.Connection) -> int:
    """Return when a counter was last written, in microseconds since the epoch; 0 if none is there.

    By the shards' logs that were folded last, so that a clock that was wrong for a while is
    forgotten.
    """
    row = connection.execute("SELECT value FROM about WHERE name = 'newest'").fetchone()
    return int(row[0] or 0) if row else 0


def expire(connection: sqlite3.Connection, now: int, reservation_ttl: int) -> None:
    """Drop what no longer counts; in a transaction of its own. Times in microseconds."""
    with transaction(connection):
        connection.execute("DELETE FROM counters WHERE expires_us <= ?", (now,))
        connection.execute(
            "DELETE FROM reservations WHERE charged_us <= ?", (now - reservation_ttl,)
        )
        connection.execute(
            "DELETE FROM rules WHERE id NOT IN (SELECT rule FROM counters)"
            " AND id NOT IN (SELECT rule FROM reservations)"
        )
    connection.execute("PRAGMA incremental_vacuum").fetchall()


def remove(connection: sqlite3.Connection, number: int, keys: Iterable[Key]) -> int:
    """Remove counters of a rule, and what reservations hold on them; return how many there were."""
    removed = 0
    for key in keys:
        rule = (number, _cell(key))
        connection.execute("DELETE FROM reservations WHERE rule = ? AND key = ?", rule)
        done = connection.execute("DELETE FROM counters WHERE rule = ? AND key = ?", rule)
        removed += done.rowcount
    return removed


def unfold(connection: sqlite3.Connection, segments: Iterable[str]) -> None:
    """Forget that segments were folded, once their files are gone."""
    with transaction(connection):
        connection.executemany(
            "DELETE FROM folded WHERE segment = ?", ((name,) for name in segments)
        )


def _state_of(connection: sqlite3.Connection, number: int, cell: str | bytes) -> State | None:
    row = connection.execute(
        "SELECT state FROM counters WHERE rule = ? AND key = ?", (number, cell)
    ).fetchone()
    return None if row is None else checked("loop", json.loads(row[0]))


def named(identity: str) -> CounterName:
    """Return an identity's parts; a name of another making stands as it is."""
    try:
        return read_counter_name(identity)
    except (ValueError, KeyError, IndexError):
        return CounterName("enforce", "", identity)


def _readable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _cell(key: Key) -> str | bytes:
    if isinstance(key, str):
        try:
            key.encode()
        except UnicodeEncodeError:
            return _SURROGATES + key.encode("utf-8", "surrogatepass")
    return key


def _key(cell: str | bytes) -> Key:
    if isinstance(cell, bytes) and cell.startswith(_SURROGATES):
        return cell.removeprefix(_SURROGATES).decode("utf-8", "surrogatepass")
    return cell
