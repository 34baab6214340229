import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.engine.debug_session import (
    MAX_AGE,
    cookie_valid,
    login_cookie,
    logout_cookie,
    secret_matches,
    session_open,
    sign,
)

SECRET = b"debug-secret"
NOW = 1_700_000_000.0


def cookie_of(set_cookie: str) -> str:
    return set_cookie.partition(";")[0].removeprefix("fv_dbg=")


def test_a_login_opens_a_session_for_its_age() -> None:
    set_cookie = login_cookie(SECRET, NOW + 0.7)
    expiry = int(NOW) + MAX_AGE
    assert set_cookie == (
        f"fv_dbg={expiry}.{sign(str(expiry), SECRET)}; Path=/; Max-Age=900; "
        "HttpOnly; Secure; SameSite=Strict"
    )
    cookie = cookie_of(set_cookie)
    assert cookie_valid(cookie, SECRET, NOW)
    assert cookie_valid(cookie, SECRET, expiry - 0.001)
    assert not cookie_valid(cookie, SECRET, expiry)
    assert not cookie_valid(cookie, b"other secret", NOW)


def test_a_logout_expires_the_cookie() -> None:
    assert logout_cookie() == "fv_dbg=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Strict"
    assert not cookie_valid(cookie_of(logout_cookie()), SECRET, NOW)


@pytest.mark.parametrize(
    "expiry", ["", " 1700000900", "+1700000900", "1700000900.0", "1e12", "\u0661" * 10, "9" * 16]
)
def test_a_malformed_expiry_is_refused_even_when_signed(expiry: str) -> None:
    assert not cookie_valid(f"{expiry}.{sign(expiry, SECRET)}", SECRET, NOW)


@pytest.mark.parametrize("cookie", ["", ".", "1700000900", "1700000900.", "1700000900.\xff", "x.y"])
def test_malformed_cookies(cookie: str) -> None:
    assert not cookie_valid(cookie, SECRET, NOW)


def test_a_padded_signature_is_another_signature() -> None:
    cookie = cookie_of(login_cookie(SECRET, NOW))
    assert not cookie_valid(f"{cookie}=", SECRET, NOW)


def test_without_a_secret_there_are_no_sessions() -> None:
    assert not cookie_valid(f"1700000900.{sign('1700000900', b'')}", b"", NOW)
    assert not secret_matches(b"", b"")
    with pytest.raises(ValueError, match="secret"):
        login_cookie(b"", NOW)


def test_the_secret_is_compared_whole() -> None:
    assert secret_matches(SECRET, SECRET)
    assert not secret_matches(SECRET[:-1], SECRET)
    assert not secret_matches(b"\xff" + SECRET, SECRET)


def test_the_cookie_is_found_among_others() -> None:
    cookie = cookie_of(login_cookie(SECRET, NOW)).encode()
    assert session_open(b"fv_dbg=" + cookie, SECRET, NOW)
    assert session_open(b"a=b; fv_dbg=old; fv_dbg=" + cookie + b" ; c", SECRET, NOW)
    assert not session_open(b"xfv_dbg=" + cookie, SECRET, NOW)
    assert not session_open(b"fv_dbg", SECRET, NOW)
    assert not session_open(b"", SECRET, NOW)
    assert not session_open(b"fv_dbg=x; " * 50 + b"fv_dbg=" + cookie, SECRET, NOW)


@given(st.binary(max_size=80))
def test_no_header_makes_it_raise(header: bytes) -> None:
    assert not session_open(b"fv_dbg=" + header, SECRET, NOW)
