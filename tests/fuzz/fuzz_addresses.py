"""Any X-Forwarded-For: an address or none, never one that a stranger chose (behaviour §4.2)."""

from ipaddress import ip_address

from daemon.engine.client_address import TrustedProxies, client_address

PROXY = "10.0.0.1"
STRANGER = "203.0.113.9"
TRUSTED = TrustedProxies.parse("10.0.0.0/8,::1/128,2001:db8::/32")


def one_input(data: bytes) -> None:
    """Ask as a stranger, as a proxy, and behind an entry that a proxy has added."""
    assert client_address(STRANGER, data, TRUSTED) == STRANGER
    found = client_address(PROXY, data, TRUSTED)
    assert found is not None
    assert str(ip_address(found)) == found
    # What our own proxy has appended is the stranger who asked it: nothing before it counts.
    assert client_address(PROXY, data + b", " + STRANGER.encode(), TRUSTED) == STRANGER
    assert client_address("", data + b"," + STRANGER.encode() + b" ", TRUSTED) == STRANGER
    named = client_address("", data, TRUSTED)
    assert named is None or str(ip_address(named)) == named
