"""`ip:country` from a MaxMind database and `ip:tor` from a list of exits (behaviour §4.3)."""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import maxminddb

Daemon = Any
"""The `Daemon` of conftest.py."""

MARK = b"\xab\xcd\xefMaxMind.com"


def country_database(countries: Mapping[str, str]) -> bytes:
    """Return a MaxMind DB of IPv4 networks (https://maxmind.github.io/MaxMind-DB/), 24-bit records.

    The tree is a list of [left, right]; None = nothing known, text = a country.
    """
    tree: list[list[int | str | None]] = [[None, None]]
    for network, country in countries.items():
        net = IPv4Network(network)
        bits = f"{int(net.network_address):032b}"[: net.prefixlen]
        node = 0
        for bit in map(int, bits[:-1]):
            if tree[node][bit] is None:
                tree.append([None, None])
                tree[node][bit] = len(tree) - 1
            node = tree[node][bit]  # type: ignore[assignment]
        tree[node][int(bits[-1])] = country
    places: dict[str, int] = {}
    data = b""
    for country in sorted(set(countries.values())):
        places[country] = len(data)
        data += record({"country": {"iso_code": country}})

    def number(entry: int | str | None) -> bytes:
        if entry is None:
            return len(tree).to_bytes(3)
        if isinstance(entry, str):
            return (len(tree) + 16 + places[entry]).to_bytes(3)
        return entry.to_bytes(3)

    nodes = b"".join(number(left) + number(right) for left, right in tree)
    about = {
        "node_count": U32(len(tree)),
        "record_size": U16(24),
        "ip_version": U16(4),
        "database_type": "Test",
        "languages": ["en"],
        "description": {"en": "Test"},
        "binary_format_major_version": U16(2),
        "binary_format_minor_version": U16(0),
        "build_epoch": U64(1),
    }
    return nodes + bytes(16) + data + MARK + record(about)


class U16(int):
    type, size = 5, 2


class U32(int):
    type, size = 6, 4


class U64(int):
    type, size = 9, 8


def record(value: object) -> bytes:
    """Return a value in MaxMind's data format: a control byte or two, then the value."""
    if isinstance(value, dict):
        return control(7, len(value)) + b"".join(record(k) + record(v) for k, v in value.items())
    if isinstance(value, list):
        return control(11, len(value)) + b"".join(map(record, value))
    if isinstance(value, str):
        return control(2, len(value)) + value.encode()
    assert isinstance(value, U16 | U32 | U64)
    return control(value.type, value.size) + value.to_bytes(value.size)


def control(kind: int, size: int) -> bytes:
    """Return the control byte; kinds over 7 have a second byte."""
    assert size < 29
    return bytes([kind << 5 | size]) if kind <= 7 else bytes([size, kind - 7])


def once(name: str, match: Mapping[str, str]) -> dict[str, object]:
    """Return a rule that refuses whatever matches it."""
    return {
        "name": name,
        "limit_keys": [],
        "match": match,
        "algorithm": "cost_based",
        "algorithm_config": {
            "budget": 1,
            "period": "1mo",
            "fixed_cost": 2,
            "staged_actions": [{"threshold_percent": 100, "action": "reject"}],
        },
    }


BUNDLE = {
    "bundle_version": 1,
    "policies": [
        {
            "id": "where",
            "spec": {
                "selector": {"pathPrefix": "/"},
                "rules": [
                    once("from-ch", {"ip:country": "CH"}),
                    once("from-tor", {"ip:tor": "true"}),
                ],
            },
        }
    ],
}


def status(daemon: Daemon, address: str, **headers: str) -> int:
    return int(daemon.decide("/x", {"X-Forwarded-For": address, **headers}).status)


def test_countries_and_exits(serve: Callable[..., Daemon], tmp_path: Path) -> None:
    database, exits = tmp_path / "country.mmdb", tmp_path / "exits"
    database.write_bytes(country_database({"192.0.2.0/25": "CH", "198.51.100.0/24": "DE"}))
    with maxminddb.open_database(database) as reader:
        assert reader.get("192.0.2.1") == {"country": {"iso_code": "CH"}}
    exits.write_text("# exits\nExitAddress 203.0.113.9 2026-11-01 00:00:00\n203.0.113.10\n")
    daemon = serve(BUNDLE, geoip_file=database, tor_exits_file=exits)
    assert status(daemon, "192.0.2.1") == 429
    assert status(daemon, "192.0.2.129") == 200
    assert status(daemon, "198.51.100.1") == 200
    assert status(daemon, "203.0.113.9") == 429
    assert status(daemon, "203.0.113.10") == 429
    assert status(daemon, "203.0.113.11") == 200
    # What the gateway says goes first.
    assert status(daemon, "192.0.2.1", **{"X-Country-Code": "fr"}) == 200
    assert status(daemon, "203.0.113.9", **{"X-Tor-Exit": "no"}) == 200


def test_files_that_cannot_be_used_stop_the_start_in_one_line(
    serve: Callable[..., Daemon], tmp_path: Path
) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"\xff\xfe not a database")
    for variable in ("geoip_file", "tor_exits_file"):
        for path in (nonsense, tmp_path / "missing"):
            daemon = serve(BUNDLE, ready=False, **{variable: path})
            assert daemon.process.wait(30) == 1
            (line,) = daemon.said().splitlines()
            assert line.startswith(f"fairvisor: FAIRVISOR_{variable.upper()}: {path}")
