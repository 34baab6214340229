import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from protocol.bundle import JwtAlgorithm
from protocol.validation.public_keys import public_key_fault

P256 = ec.generate_private_key(ec.SECP256R1())
PUBLIC = {
    name: key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for name, key in (
        ("RS256", rsa.generate_private_key(65537, 2048).public_key()),
        ("ES256", P256.public_key()),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate().public_key()),
        ("P-384", ec.generate_private_key(ec.SECP384R1()).public_key()),
    )
}


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("key", PUBLIC)
def test_a_key_fits_its_own_algorithm_only(algorithm: JwtAlgorithm, key: str) -> None:
    fault = public_key_fault(PUBLIC[key], algorithm)
    assert (fault is None) == (key == algorithm)
    assert fault is None or algorithm in fault


@pytest.mark.parametrize(
    ("pem", "advice"),
    [
        (PUBLIC["ES256"].replace("M", "", 1), "BEGIN PUBLIC KEY"),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "certificate"),
        (
            P256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
            "private key",
        ),
        ("\udcff", "BEGIN PUBLIC KEY"),
        ("x", "BEGIN PUBLIC KEY"),
    ],
)
def test_what_is_no_public_key(pem: str, advice: str) -> None:
    fault = public_key_fault(pem, "ES256")
    assert fault is not None
    assert advice in fault
    assert "public_key" in fault
