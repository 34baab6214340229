"""Who is asking: the client's address behind trusted proxies (behaviour §4.2).

The walk: a trusted peer's `X-Forwarded-For` is read from the right, the side that our own proxies
write. Trusted hops are stepped over; the first untrusted one is the client; if all are trusted the
leftmost is. An entry that is no address ends the walk at the hop to its right, because everything
left of it may be invented.

Addresses are compared and reported in one form: no port, no brackets, no zone, IPv6 compressed in
lower case (RFC 5952), IPv4-mapped IPv6 as IPv4.
"""

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

from daemon.engine.bounded_cache import BoundedCache

DEFAULT_TRUSTED_PROXIES: Final = "127.0.0.0/8,::1/128"

_REMEMBERED: Final = 8192
_LONGEST_ENTRY: Final = 128
_HIGHEST_PORT: Final = 65535
_PORT_DIGITS: Final = 5
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_MAPPED_PREFIX: Final = 96

Network = IPv4Network | IPv6Network
Hop = tuple[str | None, bool]
"""A hop's canonical address, None if it is none, and whether it is trusted."""

_NO_HOP: Final[Hop] = (None, False)


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Read one hop: an address with or without port, brackets and zone; None if it is none."""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or ":" not in host or not (port == "" or _is_port(port)):
            return None
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        if not _is_port(f":{port}"):
            return None
    else:
        host = text
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        # A zone names an interface of the machine that wrote it, and anything may stand there.
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def _is_port(text: str) -> bool:
    digits = text[1:]
    return (
        text[:1] == ":"
        and len(digits) <= _PORT_DIGITS
        and digits.isascii()
        and digits.isdigit()
        and int(digits) <= _HIGHEST_PORT
    )


def _parse_network(text: str) -> Network:
    """Read one CIDR block or address; IPv4-mapped blocks become IPv4 blocks.

    Raises:
        ValueError: naming the text and what to write instead.
    """
    try:
        network = ip_network(text)
    except ValueError as error:
        try:
            meant = ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"'{text}' is not an address or CIDR block") from error
        host = text.partition("/")[0]
        raise ValueError(
            f"'{text}' has bits set behind its prefix: write '{meant}' for the block"
            f" or '{host}' for the one address"
        ) from error
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        low = int(network.network_address) & 0xFFFF_FFFF
        return IPv4Network((low, network.prefixlen - _MAPPED_PREFIX))
    return network


class TrustedProxies:
    """The peers that may speak for others. A Unix-socket peer ("") always may.

    >>> TrustedProxies.parse("10.0.0.0/8").trusts("10.1.2.3")
    True
    """

    __slots__ = ("_all", "_networks", "_seen")

    def __init__(self, networks: Iterable[Network] = (), *, everybody: bool = False) -> None:
        self._networks = tuple(networks)
        self._all = everybody
        # Reading an address costs 3-5 µs, and a busy gateway names the same ones again and again.
        self._seen = BoundedCache[str, Hop](_REMEMBERED)

    @classmethod
    def parse(cls, text: str) -> "TrustedProxies":
        """Read `FAIRVISOR_TRUSTED_PROXIES`: a comma list of CIDR blocks, or `*` for everybody.

        Raises:
            ValueError: naming the first entry that is neither.
        """
        entries = [entry for part in text.split(",") if (entry := part.strip())]
        networks = [_parse_network(entry) for entry in entries if entry != "*"]
        return cls(networks, everybody="*" in entries)

    @classmethod
    def loopback(cls) -> "TrustedProxies":
        """Return the default: this host's own addresses."""
        return cls.parse(DEFAULT_TRUSTED_PROXIES)

    def trusts(self, peer: str) -> bool:
        """Say whether a socket peer is a trusted proxy; "" is a Unix socket."""
        return peer == "" or self.hop(peer)[1]

    def hop(self, text: str) -> Hop:
        """Return the canonical address in `text` and whether it is trusted."""
        known = self._seen.get(text)
        if known is None:
            if len(text) > _LONGEST_ENTRY:
                return _NO_HOP
            known = self._examine(text)
            self._seen.put(text, known)
        return known

    def _examine(self, text: str) -> Hop:
        address = parse_address(text)
        if address is None:
            return _NO_HOP
        return str(address), self._all or any(address in network for network in self._networks)


def client_address(
    peer: str, forwarded_for: bytes | None, trusted_proxies: TrustedProxies
) -> str | None:
    """Return the client's canonical address, or None when nobody names one.

    `peer` is the socket peer's address, "" for a Unix socket; `forwarded_for` holds all lines of
    `X-Forwarded-For`, joined in order by commas.
    """
    client, trusted = trusted_proxies.hop(peer) if peer else (None, True)
    if not trusted or not forwarded_for:
        return client
    for entry in reversed(forwarded_for.decode("latin-1").split(",")):
        address, trusted = trusted_proxies.hop(entry.strip(" \t"))
        if address is None:
            return client
        client = address
        if not trusted:
            return client
    return client
