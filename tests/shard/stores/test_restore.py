"""What a shard does about a store that it cannot read: wait for the disk, leave out nonsense."""

import sqlite3
from collections.abc import Callable

import pytest

from shard.stores.folder import Segment, StateError, StateFolder
from shard.stores.schema import is_of_the_disk, open_database
from tests.shard.stores.conftest import OneShard

Make = Callable[..., OneShard]


def test_a_database_that_cannot_be_read_ends_it(folder: StateFolder, one_shard: Make) -> None:
    folder.database.mkdir()
    with pytest.raises(StateError, match=r"counters\.db cannot be read: (disk|unable)"):
        one_shard()


def test_a_log_that_cannot_be_read_ends_it(folder: StateFolder, one_shard: Make) -> None:
    folder.file(Segment(1, 0, 1, 0)).mkdir()
    with pytest.raises(StateError, match=r"\.log cannot be read: Is a directory"):
        one_shard(life=2)


def test_a_database_that_makes_no_sense_is_told_and_left_out(
    folder: StateFolder, one_shard: Make
) -> None:
    folder.database.write_bytes(b"no database" * 1000)
    shard = one_shard()
    assert [text.rpartition(": ")[2] for _, text in shard.told] == ["file is not a database"]
    shard.spend("a")
    assert shard.used() == {"a": 1}


def test_rules_that_make_no_sense_are_told_and_left_out(
    folder: StateFolder, one_shard: Make
) -> None:
    connection = open_database(folder.database)
    connection.execute("INSERT INTO rules VALUES (1, 'x', '', '', '', 'loop', '', '{')")
    connection.close()
    shard = one_shard()
    assert [text.rpartition("; ")[2] for _, text in shard.told] == ["left out: rules"]


@pytest.mark.parametrize(
    ("code", "disk"),
    [
        (sqlite3.SQLITE_IOERR_READ, True),
        (sqlite3.SQLITE_IOERR_SHORT_READ, True),
        (sqlite3.SQLITE_CANTOPEN, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
        (sqlite3.SQLITE_CORRUPT, False),
        (sqlite3.SQLITE_NOTADB, False),
        (sqlite3.SQLITE_ERROR, False),
    ],
)
def test_whose_fault_it_is_goes_by_the_kind(code: int, *, disk: bool) -> None:
    error = sqlite3.OperationalError("x")
    error.sqlite_errorcode = code
    assert is_of_the_disk(error) == disk
    assert not is_of_the_disk(ValueError("x"))
