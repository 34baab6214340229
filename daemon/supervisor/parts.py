"""Whether everything that the daemon starts is there, before anything is started."""

import sqlite3
from importlib import import_module
from pathlib import Path

from shard.stores.folder import StateError, StateFolder
from shard.stores.schema import NewerDatabaseError, read_database

PROGRAMS = ("daemon.front.process", "shard.server", "shard.stores.process")


def check_parts(state: Path | None) -> None:
    """Import what children run, and look whether this version can read the stored counters.

    Raises:
        StateError: a part cannot be had; one line that says which and why.
    """
    for name in PROGRAMS:
        try:
            import_module(name)
        except Exception as error:  # noqa: BLE001 - whatever an import does, it cannot be had
            raise StateError(f"{name} cannot be loaded: {type(error).__name__}: {error}") from None
    if state is None or not StateFolder(state).database.exists():
        return
    database = StateFolder(state).database
    try:
        read_database(database).close()
    except NewerDatabaseError as error:
        raise StateError(f"{database}: {error}; install that version again") from None
    except sqlite3.Error:
        return  # a damaged one is set aside at the start
