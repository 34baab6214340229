import pytest

from daemon.engine.asn_table import NETWORK_TYPES, TYPE_OF_ASN
from daemon.engine.networks import (
    CountryDatabase,
    asn_number,
    country,
    network_type,
    parse_tor_exits,
    tor,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("13335", 13335),
        ("AS13335", 13335),
        ("as13335", 13335),
        (" AS3320 ", 3320),
        ("4294967295", 4294967295),
        ("4294967296", None),
        ("0" * 11, None),
        ("AS", None),
        ("", None),
        (None, None),
        ("AS 1", None),
        ("-1", None),
        ("1.5", None),
        ("ASAS1", None),
        ("\u0661", None),
    ],
)
def test_asn_forms(text: str | None, number: int | None) -> None:
    assert asn_number(text) == number


@pytest.mark.parametrize(
    ("asn", "said", "expected"),
    [
        ("16509", None, "hosting"),
        ("AS16509", "isp", "hosting"),
        ("3320", None, "isp"),
        ("680", None, "education_research"),
        ("721", None, "government_admin"),
        ("32934", None, "business"),
        ("64500", "business", "business"),
        ("64500", " Unrouted ", "unrouted"),
        (None, "unknown", "unknown"),
        ("64500", None, None),
        ("64500", "datacenter", None),
        ("rubbish", "isp", "isp"),
        (None, None, None),
    ],
)
def test_type_of_network(asn: str | None, said: str | None, expected: str | None) -> None:
    assert network_type(asn, said) == expected


def test_the_table_is_sound() -> None:
    assert len(TYPE_OF_ASN) > 250
    assert set(TYPE_OF_ASN.values()) == NETWORK_TYPES - {"unrouted", "unknown"}
    # RFC 6996, RFC 5398: numbers that belong to nobody.
    assert not any(64496 <= n <= 131071 or n == 0 or n >= 4200000000 for n in TYPE_OF_ASN)


BULK_LIST = """\
# exits of 2025-01-01
192.0.2.7
198.51.100.1

2001:DB8:0::5
not-an-address
"""

EXIT_ADDRESSES = """\
ExitNode 0011BD2485AD45D984EC4159C88FC066E5E3300E
Published 2025-01-01 00:00:00
LastStatus 2025-01-01 01:00:00
ExitAddress 192.0.2.7 2025-01-01 01:05:32
ExitAddress
"""


def test_tor_lists() -> None:
    assert parse_tor_exits(BULK_LIST) == {"192.0.2.7", "198.51.100.1", "2001:db8::5"}
    assert parse_tor_exits(EXIT_ADDRESSES) == {"192.0.2.7"}
    assert parse_tor_exits("") == frozenset()


EXITS = frozenset({"192.0.2.7"})


@pytest.mark.parametrize(
    ("said", "address", "exits", "expected"),
    [
        ("1", None, None, "true"),
        ("TRUE", None, None, "true"),
        ("yes", "9.9.9.9", EXITS, "true"),
        ("0", "192.0.2.7", EXITS, "false"),
        ("false", None, None, "false"),
        ("No", None, None, "false"),
        ("maybe", "192.0.2.7", EXITS, None),
        (None, "192.0.2.7", EXITS, "true"),
        ("", "192.0.2.7", EXITS, "true"),
        (None, "9.9.9.9", EXITS, "false"),
        (None, "9.9.9.9", frozenset(), "false"),
        (None, "192.0.2.7", None, None),
        (None, None, EXITS, None),
    ],
)
def test_tor(
    said: str | None, address: str | None, exits: frozenset[str] | None, expected: str | None
) -> None:
    assert tor(said, address, exits) == expected


class Records:
    """A database in a dictionary, which counts look-ups."""

    def __init__(self, records: dict[str, object]) -> None:
        self.records = records
        self.asked = 0

    def get(self, ip_address: str) -> object:
        self.asked += 1
        if ":" in ip_address:
            raise ValueError("IPv6 address in an IPv4-only database")
        return self.records.get(ip_address)


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({"country": {"iso_code": "DE"}}, "DE"),
        ({"country_code": "de"}, "DE"),
        ({"country": "fr"}, "FR"),
        ({"country": {"geoname_id": 1}}, None),
        ({"continent": {"code": "EU"}}, None),
        ({"country": "Germany"}, None),
        ({"country": "D1"}, None),
        ({}, None),
        ("DE", None),
        (None, None),
    ],
)
def test_record_shapes(record: object, code: str | None) -> None:
    reader = Records({"192.0.2.1": record})
    database = CountryDatabase(reader)
    assert database.country("192.0.2.1") == code
    assert database.country("192.0.2.1") == code
    assert reader.asked == 1


def test_addresses_the_database_does_not_hold() -> None:
    database = CountryDatabase(Records({}))
    assert database.country("192.0.2.1") is None
    assert database.country("2001:db8::1") is None


def test_the_gateway_goes_before_the_database() -> None:
    look_up = {"192.0.2.1": "FR"}.get
    assert country("de", "192.0.2.1", look_up) == "DE"
    assert country(None, "192.0.2.1", look_up) == "FR"
    assert country(None, "192.0.2.9", look_up) is None
    assert country(None, None, look_up) is None
    assert country(None, "192.0.2.1", None) is None
    assert country(" ", "192.0.2.1", look_up) is None
