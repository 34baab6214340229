"""Descriptor keys to the functions that read them from a request (behaviour §4.3)."""

from collections.abc import Callable

from daemon.engine import bots, networks
from daemon.engine.claims import claim_text
from daemon.engine.context import Context
from daemon.llm import providers
from protocol.descriptors import parse_key

Extractor = Callable[[Context], str | None]


def extractor(key: str) -> Extractor:
    """Return the reader of a valid descriptor key; it gives None where the value is missing."""
    descriptor = parse_key(key)
    if descriptor is None:
        raise ValueError(f"not a descriptor key: {key!r}")
    if descriptor.kind == "header":
        return _header(descriptor.name.encode())
    if descriptor.kind == "query":
        return _query(descriptor.name)
    if descriptor.kind == "jwt":
        return _claim(descriptor.name)
    return _BUILT_IN[descriptor.kind, descriptor.name]


def _header(name: bytes) -> Extractor:
    return lambda context: context.header(name)


def _query(name: str) -> Extractor:
    return lambda context: context.query(name)


def _claim(name: str) -> Extractor:
    def read(context: Context) -> str | None:
        claims = context.claims
        return claim_text(claims.get(name)) if claims else None

    return read


def _address(context: Context) -> str | None:
    return context.address


_BUILT_IN: dict[tuple[str, str], Extractor] = {
    ("ip", "address"): _address,
}
