"""Optional look-up files of a front: the country database and the list of Tor exits (§4.3)."""

from collections.abc import Callable
from pathlib import Path

import maxminddb

from daemon.engine.networks import CountryDatabase, parse_tor_exits

MAX_LIST_BYTES = 64 << 20


class LookupFileError(ValueError):
    """A file of look-ups cannot be used; the message names the variable, the file and why."""


def country_lookup(path: str | None) -> Callable[[str], str | None] | None:
    """Return the look-up of `FAIRVISOR_GEOIP_FILE`, None without one.

    Raises:
        LookupFileError: the file cannot be read or is no MaxMind database.
    """
    if path is None:
        return None
    try:
        return CountryDatabase(maxminddb.open_database(path)).country
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
        raise LookupFileError(f"FAIRVISOR_GEOIP_FILE: {path}: {error}") from None


def tor_exits(path: str | None) -> frozenset[str] | None:
    """Return the addresses listed in `FAIRVISOR_TOR_EXITS_FILE`, None without one.

    Raises:
        LookupFileError: the file cannot be read or is not text.
    """
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            return parse_tor_exits(file.read(MAX_LIST_BYTES).decode())
    except (OSError, UnicodeDecodeError) as error:
        raise LookupFileError(f"FAIRVISOR_TOR_EXITS_FILE: {path}: {error}") from None
