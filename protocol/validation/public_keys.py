"""Whether a PEM text is the public key that an algorithm needs (§12.2; RFC 7518 §3, RFC 8037)."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from protocol.bundle import JwtAlgorithm

_NEEDED: dict[JwtAlgorithm, str] = {
    "RS256": "an RSA key",
    "ES256": "an elliptic-curve key on P-256",
    "EdDSA": "an Ed25519 or Ed448 key",
}


def public_key_fault(pem: str, algorithm: JwtAlgorithm) -> str | None:
    """Return None if `pem` fits the algorithm, else a message that does not show it."""
    if "PRIVATE KEY" in pem:
        return "public_key holds a private key: put the public one here, and consider it exposed"
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        advice = (
            "it is a certificate: extract the key with `openssl x509 -pubkey -noout`"
            if "BEGIN CERTIFICATE" in pem
            else 'it must be PEM text that begins with "-----BEGIN PUBLIC KEY-----"'
        )
        return f"public_key cannot be read: {advice}"
    fits = {
        "RS256": isinstance(key, RSAPublicKey),
        "ES256": isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1),
        "EdDSA": isinstance(key, Ed25519PublicKey | Ed448PublicKey),
    }
    return None if fits[algorithm] else f"public_key must be {_NEEDED[algorithm]} for {algorithm}"
