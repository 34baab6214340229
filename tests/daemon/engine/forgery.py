"""Tokens made by hand, so that what no library would write can be written."""

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105 - an example
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
HALF = 32
"""Bytes of r and of s, and of R and of S."""

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
STRANGER = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:  # noqa: ANN401 - three classes
    encoded: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode()


KEYS = [
    {"id": "hs", "algorithm": "HS256", "secret": SECRET},
    {"id": "rs", "algorithm": "RS256", "public_key": pem(RSA_KEY)},
    {"id": "es", "algorithm": "ES256", "public_key": pem(EC_KEY)},
    {"id": "ed", "algorithm": "EdDSA", "public_key": pem(ED_KEY)},
]
"""The `jwt.keys` of a bundle."""


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def json_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def hs(text: bytes, secret: bytes = SECRET.encode()) -> bytes:
    return hmac.digest(secret, text, hashlib.sha256)


def rs(text: bytes) -> bytes:
    return RSA_KEY.sign(text, PKCS1v15(), SHA256())


def es(text: bytes) -> bytes:
    r, s = decode_dss_signature(EC_KEY.sign(text, ec.ECDSA(SHA256())))
    return r.to_bytes(HALF, "big") + s.to_bytes(HALF, "big")


def es_der(text: bytes) -> bytes:
    raw = es(text)
    halves = (int.from_bytes(raw[:HALF], "big"), int.from_bytes(raw[HALF:], "big"))
    return encode_dss_signature(*halves)


def ed(text: bytes) -> bytes:
    return ED_KEY.sign(text)


def token(header: object, payload: object = None, sign: Any = hs) -> bytes:  # noqa: ANN401
    """Return a token; `sign` makes the signature from the signing input."""
    body = {"sub": "u"} if payload is None else payload
    text = b64(json_bytes(header)) + b"." + b64(json_bytes(body))
    return text + b"." + b64(sign(text))


def plain(payload: object = None, **header: object) -> bytes:
    """Return a token that is rightly signed with the secret, whatever else its header says."""
    return token({"alg": "HS256", **header}, payload)


def resigned(change: Any, header: object, sign: Any) -> bytes:  # noqa: ANN401
    """Return a token whose right signature has been changed."""
    return token(header, sign=lambda text: change(sign(text)))
