import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.hosts import normalise_host, valid_host


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("API.Example.com:443", "api.example.com"),
        (" a.com\t", "a.com"),
        ("a.com.", "a.com"),
        ("a.com.:8080", "a.com"),
        ("a.com:", "a.com"),
        ("a.com..", "a.com."),
        ("[::1]:8080", "[::1]"),
        ("\u212a.com", "\u212a.com"),
        ("", ""),
    ],
)
def test_normalised(text: str, host: str) -> None:
    assert normalise_host(text) == host


@pytest.mark.parametrize("host", ["a", "7", "a.b", "a-b.c", "xn--bcher-kva.example", "10.0.0.1"])
def test_valid(host: str) -> None:
    assert valid_host(host)


@pytest.mark.parametrize(
    "host",
    ["", ".", "-a", "a-", ".a", "a.", "a..b", "a b", "a_b", "*.a", "a/b", "a:x", "é.com", "a\n"],
)
def test_invalid(host: str) -> None:
    assert not valid_host(host)


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,5}[A-Za-z0-9])?", fullmatch=True))
def test_a_port_a_dot_and_case_make_no_difference(name: str) -> None:
    plain = normalise_host(name)
    assert valid_host(plain)
    assert normalise_host(f" {name.upper()}.:8080 ") == normalise_host(plain) == plain
