"""Which paths speak which dialect: the decision API's front door (behaviour §7.1, §20).

A dialect is two pure functions beside the path that it is asked at. A gateway whose own shapes fit
`/v1/decision` has none; one that does not gets a module of its own and a line in `DIALECTS`.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from adapters import native
from adapters.envoy import dialect as envoy
from adapters.nginx import dialect as nginx
from protocol.decision import Decision
from protocol.request import Request


class Dialect(Protocol):
    """A gateway's wording of requests and decisions; modules have this shape."""

    PREFIX: bytes
    """The path: itself, and below it the original path (§7.1)."""

    def read(  # noqa: PLR0913 - the parts of an HTTP request
        self,
        method: str,
        target: bytes,
        headers: Mapping[bytes, bytes],
        body: bytes,
        peer: str,
        *,
        trusted: bool,
    ) -> Request:
        """Return the request that the gateway asks about. `headers` have canonical names."""
        ...

    def write(self, decision: Decision, *, delay_header: bool = False) -> tuple[bytes, bytes]:
        """Return the answer's head (status line and fields, each ended by CRLF) and body."""
        ...


NATIVE: Final[Dialect] = native
DIALECTS: Final[tuple[Dialect, ...]] = (NATIVE, envoy, nginx)

_AFTER_PREFIX = frozenset({b"", b"/", b"?"})


def find(target: bytes) -> Dialect | None:
    """Return the dialect that a request target in origin form is asked in, None for other paths."""
    for dialect in DIALECTS:
        size = len(dialect.PREFIX)
        if target.startswith(dialect.PREFIX) and target[size : size + 1] in _AFTER_PREFIX:
            return dialect
    return None
