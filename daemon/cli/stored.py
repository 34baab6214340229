"""The state folder that a command is told of, and what is stored in it."""

import os
import stat
from pathlib import Path

from daemon.cli.exits import Failure, warning
from daemon.settings import default_state_dir
from shard.stores.folder import StateError, StateFolder
from shard.stores.schema import NewerDatabaseError
from shard.stores.view import View, read_view


def existing(path: str | None) -> StateFolder:
    """Return the folder at `path`, without it the daemon's, if a daemon has stored in it.

    Raises:
        Failure: it has not, or the folder is not there.
    """
    return used(named(path))


def named(path: str | None) -> StateFolder:
    """Return the folder at `path`, without it the daemon's, whatever is in it.

    Raises:
        Failure: there is none, or this user may not read it.
    """
    if path == "none":
        raise Failure("FAIRVISOR_STATE_DIR is none: counters are in memory only")
    folder = StateFolder(Path(path) if path else default_state_dir(os.environ))
    try:
        is_folder = stat.S_ISDIR(folder.path.stat().st_mode)
    except PermissionError:
        raise Failure(f"{folder.path} cannot be read; try as root") from None
    except OSError:
        raise Failure(f"{folder.path} does not exist; name it by --state-dir") from None
    if not is_folder:
        raise Failure(f"{folder.path} is not a folder; name the daemon's by --state-dir")
    if not os.access(folder.path, os.R_OK | os.X_OK):
        raise Failure(f"{folder.path} cannot be read; try as root")
    return folder


def used(folder: StateFolder) -> StateFolder:
    """Return the folder.

    Raises:
        Failure: no daemon has stored in it.
    """
    if not is_used(folder):
        raise Failure(f"{nothing(folder)}; name the daemon's state folder by --state-dir")
    return folder


def is_used(folder: StateFolder) -> bool:
    """Tell whether a daemon has stored in a folder."""
    return folder.database.exists() or folder.log.is_dir()


def nothing(folder: StateFolder) -> str:
    """Return the words for a folder without counters."""
    return f"no counters are stored in {folder.path}"


def view(folder: StateFolder) -> View:
    """Return what is stored, and warn of what cannot be read.

    Raises:
        Failure: nothing can be read, or a newer version wrote it.
    """
    try:
        found = read_view(folder, lambda _: True)
    except StateError as error:
        raise Failure(str(error)) from None
    except (NewerDatabaseError, OSError) as error:
        raise Failure(f"{folder.path}: {error}") from None
    for problem in found.problems:
        warning(problem)
    return found
