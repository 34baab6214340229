"""The key of a deployment's digests, kept beside its counters (behaviour §19).

With it the same credential has the same digest after a restart, and in `fairvisor state`.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

SECRET_BYTES = 16


def read_secret(folder: Path) -> bytes:
    """Return the key in a state folder; a new one, for now, if there is none that can be read."""
    with suppress(OSError):
        found = (folder / "digest.key").read_bytes()
        if len(found) == SECRET_BYTES:
            return found
    return secrets.token_bytes(SECRET_BYTES)


def keep_secret(folder: Path) -> bytes:
    """Return the key in a state folder; make it there if there is none.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / "digest.key"
    secret = read_secret(folder)
    if not path.exists() or path.read_bytes() != secret:
        new = path.with_suffix(".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, secret)
            os.fsync(fd)
        finally:
            os.close(fd)
        new.rename(path)
    return secret
