"""Secrets from files, so that no environment has to hold them.

Rules
- For a secret variable `NAME`, `NAME_FILE` names a file with its value; a file called `NAME` in the
  folder that systemd's `LoadCredential=` fills is one, too.
- A secret comes from one place. Two are an error: nobody could say which of them counts.
- Files are read once, at start, like every other setting. A restart reads them again; a reload of
  the bundle does not.
- A message names the variable and the file, never what stands in it.
- Shards and the keeper are started without secrets, fronts are told them on their control socket:
  the environment that /proc shows of a child holds none.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from daemon.settings.values import SettingsError
from daemon.settings.variables import VARIABLES

UPSTREAM_HEADER: Final = "FAIRVISOR_UPSTREAM_HEADER_"
FILE: Final = "_FILE"
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""systemd.exec(5), "CREDENTIALS"."""
MAX_SECRET_BYTES: Final = 16 << 10

_NAMES: Final = frozenset(
    {each.name for each in VARIABLES if each.secret} | {"FAIRVISOR_EDGE_TOKEN"}
)


def is_secret(name: str) -> bool:
    """Say whether a variable's value is a secret."""
    return name in _NAMES or (name.startswith(UPSTREAM_HEADER) and not name.endswith(FILE))


def secret_of_file(name: str) -> str | None:
    """Return the secret variable that a `…_FILE` variable stands in for, None if it does not."""
    secret = name.removesuffix(FILE)
    return secret if secret != name and is_secret(secret) else None


def read_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return every secret that is set, by its variable, wherever its value stands.

    Raises:
        SettingsError: a secret is in two places, or its file cannot be used.
    """
    found = {name: text for name, text in environ.items() if is_secret(name) and text.strip()}
    places = dict.fromkeys(found, "")
    for name, place, path in _files(environ):
        if name in places:
            first = places[name] or name
            raise SettingsError(f"{name}: is set twice, by {first} and {place}: remove one of them")
        places[name] = place
        found[name] = _content(place, path)
    return found


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment that neither holds a secret nor says where one is."""
    return {
        name: text
        for name, text in environ.items()
        if not (is_secret(name) or secret_of_file(name) or name == CREDENTIALS)
    }


def _files(environ: Mapping[str, str]) -> Iterator[tuple[str, str, Path]]:
    """Yield (secret variable, what names the file, its path)."""
    for place, text in sorted(environ.items()):
        name = secret_of_file(place)
        if name is not None and text.strip():
            yield name, place, Path(text.strip())
    folder = environ.get(CREDENTIALS, "").strip()
    if not folder:
        return
    try:
        names = sorted(path.name for path in Path(folder).iterdir())
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise SettingsError(f"{CREDENTIALS}: {folder} cannot be read: {reason}") from None
    for name in filter(is_secret, names):
        yield name, f"credential {name}", Path(folder, name)


def _content(place: str, path: Path) -> str:
    """Return a file's text without the line's end that editors leave.

    Raises:
        SettingsError: no file that can be read, or nothing in it that can be a secret.
    """
    try:
        raw = _bytes(path)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise SettingsError(f"{place}: {path} cannot be read: {reason}") from None
    if raw is None:
        raise SettingsError(f"{place}: {path} is not a regular file")
    if len(raw) > MAX_SECRET_BYTES:
        raise SettingsError(f"{place}: {path} is over {MAX_SECRET_BYTES} bytes: is it a secret?")
    try:
        text = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SettingsError(f"{place}: {path} is not UTF-8 text") from None
    if not text.strip():
        raise SettingsError(f"{place}: {path} is empty")
    if not text.isprintable():
        raise SettingsError(f"{place}: {path} holds more than one line, or control characters")
    return text


def _bytes(path: Path) -> bytes | None:
    """Return the beginning of a regular file, None for anything else; never waits for a writer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return file.read(MAX_SECRET_BYTES + 1)
