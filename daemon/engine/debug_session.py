"""Debug sessions: a signed cookie and nothing kept on our side (behaviour §9.3).

The cookie is `<expiry>.<signature>`, the signature an HMAC-SHA256 of the expiry's text in unpadded
base64url. An empty secret means that debug sessions are off: nothing matches it, nothing verifies.
"""

import hmac
from base64 import urlsafe_b64encode
from typing import Final

COOKIE_NAME: Final = "fv_dbg"
MAX_AGE: Final = 900

_EXPIRY_DIGITS: Final = 15
_COOKIES_TRIED: Final = 4
_ATTRIBUTES: Final = "HttpOnly; Secure; SameSite=Strict"


def secret_matches(given: bytes, secret: bytes) -> bool:
    """Compare a presented secret with ours in constant time."""
    return bool(secret) and hmac.compare_digest(given, secret)


def sign(expiry: str, secret: bytes) -> str:
    """Return the signature of an expiry text."""
    digest = hmac.digest(secret, expiry.encode(), "sha256")
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def cookie_valid(cookie: str, secret: bytes, now: float) -> bool:
    """Say whether a cookie's value opens a debug session at `now` (epoch seconds)."""
    expiry, dot, signature = cookie.partition(".")
    well_formed = (
        bool(secret)
        and dot == "."
        and len(expiry) <= _EXPIRY_DIGITS
        and expiry.isascii()
        and expiry.isdigit()
        and signature.isascii()
    )
    return (
        well_formed
        # The signature first: an expiry nobody signed says nothing.
        and hmac.compare_digest(signature, sign(expiry, secret))
        and int(expiry) > now
    )


def session_open(cookie_header: bytes, secret: bytes, now: float) -> bool:
    """Say whether a `Cookie` header carries a valid debug cookie.

    A browser may send several of one name (RFC 6265 §5.4); a few are tried.
    """
    start = f"{COOKIE_NAME}="
    pairs = (pair.strip() for pair in cookie_header.decode("latin-1").split(";"))
    cookies = [pair.removeprefix(start) for pair in pairs if pair.startswith(start)]
    return any(cookie_valid(cookie, secret, now) for cookie in cookies[:_COOKIES_TRIED])


def login_cookie(secret: bytes, now: float) -> str:
    """Return the `Set-Cookie` value that opens a session at `now`.

    Raises:
        ValueError: for an empty secret, which would let anybody sign.
    """
    if not secret:
        raise ValueError("debug sessions need a secret")
    expiry = str(int(now) + MAX_AGE)
    return (
        f"{COOKIE_NAME}={expiry}.{sign(expiry, secret)}; Path=/; Max-Age={MAX_AGE}; {_ATTRIBUTES}"
    )


def logout_cookie() -> str:
    """Return the `Set-Cookie` value that makes the browser forget the session."""
    return f"{COOKIE_NAME}=; Path=/; Max-Age=0; {_ATTRIBUTES}"
