"""`jwt` cases: tokens against a bundle's keys (§12.2)."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from daemon.engine.verification import Verifier
from protocol.bundle import JwtKey, JwtPolicy


def policy_of(config: dict[str, Any]) -> JwtPolicy:
    fields = config.get("jwt", {})
    audience = fields.get("audience", ())
    return JwtPolicy(
        keys=tuple(JwtKey(**key) for key in config.get("jwt_keys", fields.get("keys", ()))),
        audience=(audience,) if isinstance(audience, str) else tuple(audience),
        issuer=fields.get("issuer"),
        leeway_seconds=Fraction(fields.get("leeway_seconds", 30)),
    )


def test_tokens(vectors_dir: Path) -> None:
    cases = json.loads((vectors_dir / "jwt_verification.json").read_text("utf-8"))["cases"]
    cases = [case for case in cases if case.get("kind") == "jwt"]
    assert cases
    for case in cases:
        verifier = Verifier(policy_of(case["config"]), {})
        for _ in range(2):  # the second answer comes from memory
            verified = verifier.verify(case["authorization"].encode(), case["at"])
            found = {"valid": verified is not None, "claims": verified.claims if verified else {}}
            assert found == case["expect"], case["name"]
