"""Which claims of a token count under a bundle's policy (behaviour §12)."""

from collections.abc import Mapping

from daemon.engine.claims import ClaimsCache
from daemon.engine.context import ReadClaims
from daemon.engine.verification import Verifier
from protocol.bundle import JwtPolicy


def claims_reader(policy: JwtPolicy, jwks: Mapping[str, bytes]) -> ReadClaims:
    """Return the reader of claims: verified ones if the policy has keys, else as they stand.

    Raises:
        UnusableKeyError: a key of the policy cannot be used.
    """
    if not policy.keys:
        cache = ClaimsCache()
        return lambda authorization, _now: cache.read(authorization)
    verifier = Verifier(policy, jwks)

    def read(authorization: bytes, now: float) -> dict[str, object] | None:
        verified = verifier.verify(authorization, now)
        return None if verified is None else verified.claims

    return read
