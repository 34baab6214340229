"""`jwt` cases: tokens against a bundle's keys (§12.2)."""

from fractions import Fraction
from typing import Any

from daemon.engine.verification import Verifier
from protocol.bundle import JwtKey, JwtPolicy

AREA = "*"


def policy_of(config: dict[str, Any]) -> JwtPolicy:
    fields = config.get("jwt", {})
    audience = fields.get("audience", ())
    return JwtPolicy(
        keys=tuple(JwtKey(**key) for key in config.get("jwt_keys", fields.get("keys", ()))),
        audience=(audience,) if isinstance(audience, str) else tuple(audience),
        issuer=fields.get("issuer"),
        leeway_seconds=Fraction(fields.get("leeway_seconds", 30)),
    )


def test_a_token(jwt_case: dict[str, Any]) -> None:
    verifier = Verifier(policy_of(jwt_case["config"]), {})
    for _ in range(2):  # the second answer comes from memory
        verified = verifier.verify(jwt_case["authorization"].encode(), jwt_case["at"])
        found = {"valid": verified is not None, "claims": verified.claims if verified else {}}
        assert found == jwt_case["expect"]
