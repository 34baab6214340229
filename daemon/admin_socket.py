"""Where the admin socket is (behaviour §14, §17): daemon and command line look for it alike."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

VARIABLE = "FAIRVISOR_ADMIN_SOCKET"
DEFAULT = "/run/fairvisor/admin.sock"
NONE = "none"
_SUN_PATH_MAX = 107


@dataclass(frozen=True, slots=True)
class AdminSocket:
    """Paths in the order in which they are tried; none: there is to be no admin socket.

    `chosen`: somebody named it, so that not getting it is an error.
    """

    paths: tuple[str, ...]
    chosen: bool


def admin_socket(environ: Mapping[str, str]) -> AdminSocket:
    """Return where the admin socket is to be.

    Raises:
        ValueError: the path that was named cannot be a socket's; the message says why.
    """
    text = environ.get(VARIABLE, "").strip()
    if text == NONE:
        return AdminSocket((), chosen=True)
    if text:
        return AdminSocket((_checked(text),), chosen=True)
    paths = [DEFAULT]
    runtime = environ.get("XDG_RUNTIME_DIR", "").strip()
    if runtime.startswith("/"):
        paths.append(f"{runtime.rstrip('/')}/fairvisor/admin.sock")
    return AdminSocket(tuple(paths), chosen=False)


def _checked(path: str) -> str:
    if not path.startswith("/") or len(os.fsencode(path)) > _SUN_PATH_MAX or "\0" in path:
        raise ValueError(
            f"'{path}' needs to be an absolute path of at most {_SUN_PATH_MAX} bytes, or {NONE}"
        )
    return path
