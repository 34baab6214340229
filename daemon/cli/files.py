"""Files a user names: read within bounds, `-` is standard input."""

import os
import sys
from pathlib import Path

from daemon.cli.exits import Failure
from daemon.settings import SettingsError, read_secrets

MAX_BUNDLE_BYTES = 64 << 20
MAX_REQUESTS_BYTES = 1 << 30
_SIGNING_KEY = "FAIRVISOR_BUNDLE_SIGNING_KEY"


def name(path: str) -> str:
    """Return what a file is called in messages."""
    return "standard input" if path == "-" else path


def read(path: str, limit: int) -> bytes:
    """Return a file's bytes.

    Raises:
        Failure: it cannot be read, or holds more than `limit` bytes.
    """
    try:
        if path == "-":
            text = sys.stdin.buffer.read(limit + 1)
        else:
            with Path(path).open("rb") as file:
                text = file.read(limit + 1)
    except OSError as error:
        raise Failure(f"{name(path)}: cannot be read: {os.strerror(error.errno or 0)}") from None
    if len(text) > limit:
        raise Failure(f"{name(path)}: is larger than {limit >> 20} MiB")
    return text


def signing_key() -> bytes | None:
    """Return the key that bundles must be signed with (§2.6), None without one.

    Raises:
        Failure: it cannot be read.
    """
    names = (_SIGNING_KEY, f"{_SIGNING_KEY}_FILE")
    try:
        secrets = read_secrets({each: os.environ[each] for each in names if each in os.environ})
    except SettingsError as error:
        raise Failure(str(error)) from None
    return secrets.get(_SIGNING_KEY, "").strip().encode() or None
