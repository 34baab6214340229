"""The walk of §4.2, by example and against a slow reading of the text."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.engine.client_address import TrustedProxies, client_address, parse_address

TEN = TrustedProxies.parse("10.0.0.0/8, 127.0.0.0/8, ::1/128, fd00::/8")


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("10.0.0.5", b"1.1.1.1, 203.0.113.9, 10.2.3.4", "203.0.113.9"),
        ("203.0.113.50", b"1.1.1.1", "203.0.113.50"),
        ("127.0.0.1", b"10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", b"", "127.0.0.1"),
        ("127.0.0.1", b" ", "127.0.0.1"),
        ("", None, None),
        ("", b"198.51.100.7", "198.51.100.7"),
        ("", b"garbage", None),
        ("", b"198.51.100.7, garbage", None),
        ("", b"garbage, 198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", b"garbage", "127.0.0.1"),
        ("127.0.0.1", b"1.1.1.1, unknown, 10.0.0.3", "10.0.0.3"),
        ("127.0.0.1", b"1.1.1.1,,10.0.0.3", "10.0.0.3"),
        ("127.0.0.1", b"1.1.1.1,", "127.0.0.1"),
        ("127.0.0.1", b"203.0.113.9:4711", "203.0.113.9"),
        ("127.0.0.1", b"[2001:DB8:0:0::1]:443", "2001:db8::1"),
        ("127.0.0.1", b"[2001:db8::1]", "2001:db8::1"),
        ("127.0.0.1", b"2001:0db8::0001", "2001:db8::1"),
        ("127.0.0.1", b"::ffff:203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", b"1.1.1.1, ::ffff:10.0.0.1", "1.1.1.1"),
        ("127.0.0.1", b"fe80::1%eth0", "fe80::1"),
        ("::ffff:127.0.0.1", b"1.1.1.1", "1.1.1.1"),
        ("::ffff:203.0.113.50", b"1.1.1.1", "203.0.113.50"),
        ("fd12::1", b"1.1.1.1\t,\t2001:db8::9", "2001:db8::9"),
        ("not an address", b"1.1.1.1", None),
    ],
)
def test_the_walk(peer: str, forwarded: bytes | None, expected: str | None) -> None:
    assert client_address(peer, forwarded, TEN) == expected


def test_trusting_everybody_reads_the_leftmost() -> None:
    everybody = TrustedProxies.parse("*")
    assert client_address("203.0.113.50", b"2001:db8::1, 198.51.100.4", everybody) == "2001:db8::1"
    assert client_address("203.0.113.50", b"evil, 198.51.100.4", everybody) == "198.51.100.4"


def test_trusting_nobody_leaves_the_unix_socket() -> None:
    nobody = TrustedProxies.parse("")
    assert nobody.trusts("")
    assert not nobody.trusts("127.0.0.1")


def test_loopback_is_the_default() -> None:
    loopback = TrustedProxies.loopback()
    assert loopback.trusts("127.8.9.1")
    assert loopback.trusts("::1")
    assert not loopback.trusts("10.0.0.1")


def test_mapped_blocks_are_ipv4_blocks() -> None:
    mapped = TrustedProxies.parse("::ffff:10.0.0.0/104")
    assert mapped.trusts("10.200.0.1")
    assert not mapped.trusts("11.0.0.1")


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("10.0.0.0/8, nonsense", "'nonsense' is not an address or CIDR block"),
        ("10.0.0.0/33", "'10.0.0.0/33'"),
        ("10.0.0.5/8", "write '10.0.0.0/8' for the block or '10.0.0.5' for the one address"),
        ("localhost", "'localhost'"),
    ],
)
def test_a_bad_entry_is_named(text: str, fragment: str) -> None:
    with pytest.raises(ValueError, match="block") as caught:
        TrustedProxies.parse(text)
    assert fragment in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.2.3",
        "01.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:x",
        "1.2.3.4:70000",
        "1.2.3.4:123456",
        "1.2.3.4:-1",
        "1.2.3.4/8",
        "[1.2.3.4]:80",
        "[::1",
        "::1]",
        "[::1]80",
        "[::1]:",
        "[]",
        "2001:db8::1::2",
        '"[::1]"',
        "\u0661.1.1.1",
        "unknown",
        "_hidden",
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert parse_address(text) is None


def test_overlong_entries_are_not_even_looked_at() -> None:
    assert client_address("127.0.0.1", b"fe80::1%" + b"z" * 5000, TEN) == "127.0.0.1"


V4 = st.builds(lambda a, b: f"{a}.0.0.{b}", st.sampled_from([9, 10, 127, 203]), st.integers(0, 255))
V6 = st.sampled_from(["2001:db8::1", "2001:DB8::F", "fd00::7", "::1", "::ffff:10.0.0.9"])
DRESSED = st.one_of(
    V4,
    V6,
    V4.map(lambda text: f"{text}:8080"),
    V6.map(lambda text: f"[{text}]"),
    V6.map(lambda text: f"[{text}]:65535"),
    st.sampled_from(["", "unknown", "1.2.3", "[::1", "1.1.1.1:x"]),
)


def plain(entry: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Undress an entry the slow way."""
    text = entry.strip()
    if "]" in text:
        text = text.partition("]")[0].removeprefix("[")
    elif text.count(":") == 1 and text.partition(":")[2].isdigit():
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def slow_walk(peer: str, entries: list[str], networks: list[str]) -> str | None:
    blocks = [ipaddress.ip_network(network) for network in networks]
    chain = [plain(peer)] if peer else []
    believed = not peer or any(chain[0] in block for block in blocks)
    for entry in reversed(entries):
        if not believed or plain(entry) is None:
            break
        chain.append(plain(entry))
        believed = any(chain[-1] in block for block in blocks)
    return str(chain[-1]) if chain else None


@given(st.one_of(st.just(""), V4, V6), st.lists(DRESSED, min_size=1, max_size=6), st.data())
def test_as_the_slow_walk(peer: str, entries: list[str], data: st.DataObject) -> None:
    networks = data.draw(
        st.lists(st.sampled_from(["10.0.0.0/8", "127.0.0.0/8", "fd00::/8", "::1/128", "9.0.0.0/8"]))
    )
    separator = data.draw(st.sampled_from([",", ", ", " ,\t"]))
    found = client_address(
        peer, separator.join(entries).encode(), TrustedProxies.parse(",".join(networks))
    )
    assert found == slow_walk(peer, entries, networks)
