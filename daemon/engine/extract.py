"""Descriptor keys to the functions that read them from a request (behaviour §4.3)."""

from collections.abc import Callable

from daemon.engine import networks
from daemon.engine.claims import claim_text
from daemon.engine.context import Context
from daemon.engine.edge_headers import is_edge_header
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
    if is_edge_header(name):
        return lambda context: context.edge_header(name)
    return lambda context: context.header(name)


def _query(name: str) -> Extractor:
    return lambda context: context.query(name)


def _claim(name: str) -> Extractor:
    def read(context: Context) -> str | None:
        # One claim is asked for by every rule on it, the fingerprint and the breaker.
        texts = context.claim_texts
        if name in texts:
            return texts[name]
        claims = context.claims
        text = texts[name] = claim_text(claims.get(name)) if claims else None
        return text

    return read


def _country(context: Context) -> str | None:
    said = context.edge_header(b"x-country-code")
    return networks.country(said, context.address, context.sources.country)


def _asn(context: Context) -> str | None:
    return context.edge_header(b"x-asn")


def _network_type(context: Context) -> str | None:
    return networks.network_type(_asn(context), context.edge_header(b"x-asn-type"))


def _tor(context: Context) -> str | None:
    said = context.edge_header(b"x-tor-exit")
    return networks.tor(said, context.address, context.sources.tor_exits)


def _bot(context: Context) -> str | None:
    agent = context.header(b"user-agent")
    if agent is None:
        return None
    return "false" if context.sources.bots.category(agent) is None else "true"


def _bot_category(context: Context) -> str | None:
    agent = context.header(b"user-agent")
    return context.sources.bots.category(agent) if agent else None


_BUILT_IN: dict[tuple[str, str], Extractor] = {
    ("ip", "address"): lambda context: context.address,
    ("ip", "country"): _country,
    ("ip", "asn"): _asn,
    ("ip", "type"): _network_type,
    ("ip", "tor"): _tor,
    ("ua", "bot"): _bot,
    ("ua", "bot_category"): _bot_category,
    ("llm", "model"): lambda context: context.llm.model,
    ("llm", "provider"): lambda context: context.provider,
    ("llm", "endpoint"): lambda context: providers.endpoint(context.request.path),
}
