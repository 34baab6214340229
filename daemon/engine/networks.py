"""What is known of the client's network (behaviour §4.3): type, Tor exit, country.

Header texts come in as the caller lets them count: None when absent, empty, or from an untrusted
peer (§4.2). Addresses are canonical (see `client_address`). What a gateway says goes first; tables
and lists of our own fill in, except for `ip:type`, where the built-in table goes first.
"""

from collections.abc import Callable, Iterator
from typing import Final, Literal, Protocol

from daemon.engine.asn_table import NETWORK_TYPES, TYPE_OF_ASN
from daemon.engine.bounded_cache import BoundedCache
from daemon.engine.client_address import parse_address

LookUp = Callable[[str], str | None]
"""A canonical address to its country code, for example `CountryDatabase.country`."""

_HIGHEST_ASN: Final = 2**32 - 1
_ASN_DIGITS: Final = 10
_TRUE: Final = frozenset({"1", "true", "yes"})
_FALSE: Final = frozenset({"0", "false", "no"})
_COUNTRY_LETTERS: Final = 2
_REMEMBERED: Final = 8192


def asn_number(text: str | None) -> int | None:
    """Read `1234` or `AS1234`; None for anything else."""
    digits = (text or "").strip()
    if digits[:2].upper() == "AS":
        digits = digits[2:]
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _ASN_DIGITS:
        return None
    number = int(digits)
    return number if number <= _HIGHEST_ASN else None


def network_type(asn: str | None, said: str | None) -> str | None:
    """Return `ip:type` from `X-ASN` by the built-in table, else a valid `X-ASN-Type`, or None."""
    number = asn_number(asn)
    if number is not None and number in TYPE_OF_ASN:
        return TYPE_OF_ASN[number]
    stated = (said or "").strip().lower()
    return stated if stated in NETWORK_TYPES else None


def parse_tor_exits(text: str) -> frozenset[str]:
    """Read a list of Tor exits: one address a line, or the Tor Project's `ExitAddress` records.

    Other lines (comments, `ExitNode`, `Published`, …) are passed over. Addresses are canonical.
    """
    return frozenset(_exit_addresses(text))


def _exit_addresses(text: str) -> Iterator[str]:
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["ExitAddress"]:
            words = words[1:2]
        if len(words) == 1:
            address = parse_address(words[0])
            if address is not None:
                yield str(address)


def tor(
    said: str | None, address: str | None, exits: frozenset[str] | None
) -> Literal["true", "false"] | None:
    """Return `ip:tor` from `X-Tor-Exit`, else the loaded exit list (None: there is no list)."""
    if said:
        word = said.strip().lower()
        if word in _TRUE:
            return "true"
        return "false" if word in _FALSE else None
    if exits is None or address is None:
        return None
    return "true" if address in exits else "false"


class MaxMindReader(Protocol):
    """The one method of `maxminddb.Reader` that is used here."""

    def get(self, ip_address: str) -> object:
        """Return the record of an address, None if there is none."""


class CountryDatabase:
    """Countries by address from an open MaxMind database; remembers what it was asked lately.

    Knows the record shapes `{"country": {"iso_code": "DE"}}` (GeoLite2, DB-IP),
    `{"country_code": "DE"}` and `{"country": "DE"}`.
    """

    __slots__ = ("_reader", "_seen")

    def __init__(self, reader: MaxMindReader) -> None:
        self._reader = reader
        self._seen = BoundedCache[str, str](_REMEMBERED)

    def country(self, address: str) -> str | None:
        """Return the ISO 3166 code of a canonical address in capitals, None if unknown."""
        known = self._seen.get(address)
        if known is None:
            known = self._look_up(address)
            self._seen.put(address, known)
        return known or None

    def _look_up(self, address: str) -> str:
        try:
            record = self._reader.get(address)
        except ValueError:
            # A database of IPv4 networks refuses IPv6 addresses.
            return ""
        if not isinstance(record, dict):
            return ""
        found = record.get("country_code", record.get("country"))
        if isinstance(found, dict):
            found = found.get("iso_code")
        return _country_code(found) if isinstance(found, str) else ""


def _country_code(text: str) -> str:
    code = text.strip().upper()
    return code if len(code) == _COUNTRY_LETTERS and code.isascii() and code.isalpha() else ""


def country(said: str | None, address: str | None, look_up: LookUp | None) -> str | None:
    """Return `ip:country` from `X-Country-Code` in capitals, else by a database, or None."""
    if said:
        return said.strip().upper() or None
    if look_up is None or address is None:
        return None
    return look_up(address)
