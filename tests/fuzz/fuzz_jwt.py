"""Any bytes as an Authorization header: claims or none, and verified only with the right MAC."""

import hmac
from base64 import urlsafe_b64decode
from hashlib import sha256

from daemon.engine.claims import ClaimsCache, claim_text
from daemon.engine.jitter import jitter_identity, retry_after
from daemon.engine.verification import Verified, Verifier
from protocol.bundle import JwtKey, JwtPolicy

NOW = 1_770_129_000.0
SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105 - a test key
_POLICY = JwtPolicy(keys=(JwtKey("k", "HS256", secret=SECRET),), audience=("api",))


def one_input(data: bytes) -> None:
    """Read it without and with keys."""
    claims = ClaimsCache().read(data)
    if claims is not None:
        for value in claims.values():
            text = claim_text(value)
            assert text is None or text
        identity = jitter_identity(claims, None, "/")
        assert 10 <= retry_after(10, "tpm_exceeded", "p", "r", identity, b"") <= 15
    verified = Verifier(_POLICY, {}).verify(data, NOW)
    if isinstance(verified, Verified):
        assert signed(data)
        assert "api" in (verified.claims["aud"], *list(verified.claims["aud"]))  # type: ignore[call-overload]


def signed(header: bytes) -> bool:
    """Tell whether a bearer token carries the right MAC, in as few lines as possible."""
    head, _, mac = header.removeprefix(b"Bearer ").rpartition(b".")
    return urlsafe_b64decode(mac + b"==") == hmac.digest(SECRET.encode(), head, sha256)
