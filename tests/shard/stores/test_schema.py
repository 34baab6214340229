"""The database of an earlier version, of a later one, and of nobody."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from shard.stores import database
from shard.stores.folder import StateFolder
from shard.stores.schema import MIGRATIONS, VERSION, open_database, read_database

Cluster = Any


def as_version_1(path: Path) -> None:
    """Make a file what version 1 of the program has left."""
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM about WHERE name = 'newest'")
        connection.execute("PRAGMA user_version = 1")
    connection.close()


def test_there_is_a_way_from_every_version() -> None:
    assert sorted(MIGRATIONS) == list(range(1, VERSION))


def test_counters_of_version_1_go_on(cluster: Cluster) -> None:
    cluster.start(2)
    for key in ("a", "b", "a"):
        cluster.spend(key)
    cluster.start(2)
    cluster.keeper.finish(0)
    as_version_1(cluster.folder.database)
    cluster.start(3)
    assert cluster.used() == {"a": 2, "b": 1}
    assert cluster.told == []
    connection = cluster.keeper.connection
    assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert database.newest(connection) == cluster.shards[0].newest > 0


def test_version_1_can_be_looked_at_as_it_is(folder: StateFolder) -> None:
    open_database(folder.database).close()
    as_version_1(folder.database)
    connection = read_database(folder.database)
    assert database.newest(connection) == 0
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()


def test_a_migration_that_fails_changes_nothing(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_database(folder.database).close()
    as_version_1(folder.database)

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TABLE counters")
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr("shard.stores.schema.MIGRATIONS", {1: fail})
        with pytest.raises(sqlite3.OperationalError):
            open_database(folder.database)
    connection = open_database(folder.database)
    assert connection.execute("SELECT count(*) FROM counters").fetchone() == (0,)
    connection.close()


def test_an_empty_file_is_no_database_to_read(folder: StateFolder) -> None:
    folder.database.touch()
    with pytest.raises(sqlite3.DatabaseError, match="no database of counters"):
        read_database(folder.database)
