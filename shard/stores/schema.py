"""The database file: its tables, its version, how it is opened (behaviour §13.5).

`counters` and `reservations` are tables for programs; `state` is a view for people. A key is text,
or a blob: a digest, or (marked) text with lone surrogates, which SQLite cannot hold as text.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

VERSION = 2
APPLICATION = 0x66767372
_BUSY_SECONDS = 10.0
_WAL_BYTES = 16 << 20
_CACHE_KIB = 16_384

_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE rules (
    id INTEGER PRIMARY KEY,
    identity BLOB NOT NULL UNIQUE,
    mode TEXT NOT NULL,
    policy TEXT NOT NULL,
    rule TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    limit_keys TEXT NOT NULL,
    parameters TEXT NOT NULL
);
CREATE TABLE counters (
    rule INTEGER NOT NULL,
    key BLOB NOT NULL,
    state TEXT NOT NULL,
    placement INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    expires_us INTEGER,
    PRIMARY KEY (rule, key)
) WITHOUT ROWID;
CREATE TABLE reservations (
    id BLOB NOT NULL,
    rule INTEGER NOT NULL,
    key BLOB NOT NULL,
    placement INTEGER NOT NULL,
    charged_us INTEGER NOT NULL,
    cost TEXT NOT NULL,
    PRIMARY KEY (id, rule, key)
) WITHOUT ROWID;
CREATE TABLE folded (segment TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE VIEW state AS
    SELECT policy, rules.rule AS rule, mode, algorithm, limit_keys,
           CASE typeof(key) WHEN 'blob' THEN hex(key) ELSE key END AS key, state,
           strftime('%Y-%m-%dT%H:%M:%SZ', updated_us / 1000000, 'unixepoch') AS updated_at,
           strftime('%Y-%m-%dT%H:%M:%SZ', expires_us / 1000000, 'unixepoch') AS expires_at
    FROM counters JOIN rules ON rules.id = counters.rule;
"""


def _note_newest(connection: sqlite3.Connection) -> None:
    """Version 2 notes when a counter was last written, for which version 1 needs a scan."""
    connection.execute(
        "INSERT OR REPLACE INTO about SELECT 'newest', MAX(updated_us) FROM counters"
    )


MIGRATIONS: Mapping[int, Callable[[sqlite3.Connection], None]] = {1: _note_newest}
"""From a version of the file to the next; each runs in the transaction that raises the version."""


_THE_DISK = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY})


def is_of_the_disk(error: Exception) -> bool:
    """Return whether a database could not be read for now, rather than makes no sense.

    The low byte of SQLite's code is its kind: https://sqlite.org/rescode.html
    """
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _THE_DISK


class NewerDatabaseError(Exception):
    """A newer version of the program has written the file."""


def open_database(path: Path) -> sqlite3.Connection:
    """Return the writer's connection; the file is made, or brought up to date.

    Raises:
        NewerDatabaseError: the file is of a newer version.
        sqlite3.DatabaseError: it is damaged, or no database; `sqlite3.OperationalError`: the disk.
    """
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        _refuse_newer(_version(connection))  # before anything is written to it
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a log goes only once its fold is on disk
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        _bring_up_to_date(connection)
        _check(connection)
    except BaseException:
        connection.close()
        raise
    path.chmod(0o600)
    return connection


def read_database(path: Path) -> sqlite3.Connection:
    """Return a connection that only reads, and sees one moment for as long as it is open.

    Raises:
        sqlite3.Error: there is no database, or it cannot be read.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
    )
    try:
        connection.execute("BEGIN")
        _require_version(connection)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done inside, or none of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    version = _version(connection)
    if version == 0:
        with transaction(connection):
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        return
    while version < VERSION:
        with transaction(connection):
            MIGRATIONS[version](connection)
            version += 1
            connection.execute(f"PRAGMA user_version = {version}")


def _check(connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(str(found))


def _require_version(connection: sqlite3.Connection) -> None:
    version = _version(connection)
    if version == 0:
        raise sqlite3.DatabaseError("it is no database of counters")
    _refuse_newer(version)  # an older one has the same tables


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _refuse_newer(version: int) -> None:
    if version > VERSION:
        raise NewerDatabaseError(f"it has version {version}, this program knows {VERSION}")
