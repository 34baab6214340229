"""Verification of bearer tokens (behaviour §12.2, RFC 7515, RFC 7519).

Rules
1. A token is looked at only if it is compact, strict base64url, at most `MAX_TOKEN_BYTES` long, and
   its header is one we understand whole: no `crit`, no `b64` other than true, `kid` text if any.
   Keys and addresses that a header offers (`jwk`, `jku`, `x5c`, …) are never used.
2. Keys are tried only for their own algorithm and `kid`. Signatures are PyJWT's business; times,
   audience and issuer are ours: our clock is handed in (replay, tests), PyJWT reads the machine's.
3. `exp` and `nbf` must be numbers when present, and are compared exactly.

Costs: a signature is 30-100 µs, a remembered token 0.3 µs. Good tokens are remembered by their
bytes with their time window; bad ones, by a digest, in a cache of their own, so that neither a
repeated forgery costs a signature each time nor a flood of forgeries pushes good tokens out.
"""

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from math import isfinite
from typing import Final, Literal

from daemon.engine.bounded_cache import BoundedCache
from daemon.engine.claims import Claims, base64url, json_object, token_parts
from daemon.engine.verification_keys import ReadyKey, ready_keys
from protocol.bundle import JwtPolicy, Problem

MAX_TOKEN_BYTES: Final = 16384
_REMEMBERED: Final = 4096
_REMEMBERED_BYTES: Final = 8 << 20
_REFUSED: Final = 4096
_DIGEST_BYTES: Final = 16

Instant = int | Fraction
"""Epoch seconds, exact: an integer where one will do, because comparing those is cheap."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Claims of a valid token. The dictionary is shared between readers."""

    claims: Claims


@dataclass(frozen=True, slots=True)
class _Genuine:
    """A token whose signature, audience and issuer are right, with its time window."""

    verified: Verified
    starts: Instant | None
    ends: Instant | None

    def at(self, now: float) -> Verified | None:
        if self.starts is not None and now < self.starts:
            return None
        if self.ends is not None and now >= self.ends:
            return None
        return self.verified


class Verifier:
    """Verify tokens by one bundle's policy; a reload or a changed JWKS file makes a new one.

    `jwks` holds documents by the `jwks_file` names of the policy. `problems` tells what is wrong
    with those documents.

    Raises:
        UnusableKeyError: see `ready_keys`.
    """

    __slots__ = ("_genuine", "_keys", "_policy", "_refused", "problems")

    def __init__(self, policy: JwtPolicy, jwks: Mapping[str, bytes]) -> None:
        self._policy = policy
        self._keys: tuple[ReadyKey, ...]
        self.problems: tuple[Problem, ...]
        self._keys, self.problems = ready_keys(policy, jwks)
        self._genuine = BoundedCache[bytes, _Genuine](_REMEMBERED, _REMEMBERED_BYTES)
        self._refused = BoundedCache[bytes, bool](_REFUSED)

    def verify(self, authorization: bytes, now: float) -> Verified | None:
        """Return the claims of a token that is valid at `now` (epoch seconds), else None.

        `authorization` is the header's whole value.
        """
        genuine = self._genuine.get(authorization)
        if genuine is None:
            if len(authorization) > MAX_TOKEN_BYTES:
                return None
            genuine = self._examine(authorization)
            if genuine is None:
                return None
            self._genuine.put(authorization, genuine, len(authorization))
        return genuine.at(now)

    def _examine(self, authorization: bytes) -> _Genuine | None:
        """Check all that does not depend on the time."""
        parts = token_parts(authorization)
        header = json_object(parts[0]) if parts else None
        if parts is None or header is None:
            return None
        keys = self._candidates(header)
        if not keys:
            return None
        digest = blake2b(authorization, digest_size=_DIGEST_BYTES).digest()
        if self._refused.get(digest):
            return None
        genuine = self._genuine_by(keys, parts)
        if genuine is None:
            self._refused.put(digest, value=True)
        return genuine

    def _candidates(self, header: Claims) -> list[ReadyKey]:
        """Return the keys that a token with this header may be tried with."""
        if "crit" in header or header.get("b64", True) is not True:
            return []
        algorithm = header.get("alg")
        keys = [key for key in self._keys if key.algorithm == algorithm]
        if "kid" in header:
            kid = header["kid"]
            return [key for key in keys if isinstance(kid, str) and kid in key.ids]
        return keys

    def _genuine_by(self, keys: list[ReadyKey], parts: list[bytes]) -> _Genuine | None:
        try:
            signature = base64url(parts[2])
        except ValueError:
            return None
        # One token has one spelling, or a limit on the header's text is dodged by writing it anew.
        if urlsafe_b64encode(signature).rstrip(b"=") != parts[2]:
            return None
        signing_input = parts[0] + b"." + parts[1]
        if not any(key.signed(signing_input, signature) for key in keys):
            return None
        # Read only now: nobody's JSON is worth parsing before the signature holds.
        claims = json_object(parts[1])
        if claims is None or not self._addressed(claims):
            return None
        return _windowed(claims, self._policy.leeway_seconds)

    def _addressed(self, claims: Claims) -> bool:
        """Say whether `aud` and `iss` are those that the policy asks for."""
        policy = self._policy
        if policy.issuer is not None and claims.get("iss") != policy.issuer:
            return False
        if not policy.audience:
            return True
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        return any(value in policy.audience for value in named if isinstance(value, str))


def _windowed(claims: Claims, leeway: Fraction) -> _Genuine | None:
    """Attach the time window of `exp` and `nbf`; None when one of them is not a number."""
    expires, begins = _instant(claims, "exp"), _instant(claims, "nbf")
    if expires is False or begins is False:
        return None
    return _Genuine(
        Verified(claims),
        None if begins is None else _plain(begins - leeway),
        None if expires is None else _plain(expires + leeway),
    )


def _instant(claims: Claims, name: str) -> Fraction | Literal[False] | None:
    """Return a NumericDate claim (RFC 7519 §2), None if absent, False if it is something else."""
    if name not in claims:
        return None
    value = claims[name]
    # bool is an int to Python, not to JSON.
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        return Fraction(value)
    return False


def _plain(instant: Fraction) -> Instant:
    return instant.numerator if instant.denominator == 1 else instant
