"""Where an upstream is: `http://…`, `https://…` or `unix:/path`, read once at start."""

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SUN_PATH_MAX = 107


@dataclass(frozen=True, slots=True)
class UpstreamUrl:
    """One upstream. `socket` is a Unix socket's path, "" for TCP.

    `authority` is what `Host` says, `base_path` what stands before every forwarded path (no
    trailing "/").
    """

    host: str
    port: int
    tls: bool
    authority: str
    base_path: str = ""
    socket: str = ""

    def __str__(self) -> str:
        return f"unix:{self.socket}" if self.socket else f"{self.host}:{self.port}"


def parse_upstream_url(text: str) -> UpstreamUrl:
    """Return the upstream that a URL names.

    Raises:
        ValueError: not such a URL; the message never repeats credentials.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or len(os.fsencode(path)) > _SUN_PATH_MAX:
            raise ValueError(f"needs an absolute path of at most {_SUN_PATH_MAX} bytes after unix:")
        return UpstreamUrl("", 0, tls=False, authority="localhost", socket=path)
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("has characters that no URL may hold")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"is not a URL: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold credentials; set FAIRVISOR_UPSTREAM_HEADER_Authorization")
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("must be http://host[:port][/path], https://… or unix:/path")
    if parts.query or parts.fragment:
        raise ValueError("must not have a query or fragment")
    return UpstreamUrl(
        parts.hostname,
        _DEFAULT_PORTS[parts.scheme] if port is None else port,
        tls=parts.scheme == "https",
        authority=parts.netloc,
        base_path=parts.path.rstrip("/"),
    )
