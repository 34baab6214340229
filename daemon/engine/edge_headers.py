"""Headers that only a trusted peer may set (behaviour §4.2)."""

from collections.abc import Iterable
from typing import Final

EDGE_HEADERS: Final = frozenset(
    {b"x-country-code", b"x-asn", b"x-asn-type", b"x-tor-exit", b"x-token-estimate"}
)
EDGE_PREFIXES: Final = (b"x-forwarded-", b"x-original-")


def is_edge_header(name: bytes) -> bool:
    """Say whether a header's canonical name is one that a gateway, not a client, speaks with."""
    return name in EDGE_HEADERS or name.startswith(EDGE_PREFIXES)


def first_edge_header(names: Iterable[bytes]) -> bytes | None:
    """Return the first edge header among canonical names: what an untrusted peer is warned of."""
    return next((name for name in names if is_edge_header(name)), None)
