"""Verification keys made ready once (behaviour §12.2): PEM texts, secrets and JWKS documents.

A prepared key is bound to one algorithm for good, and the token's header never picks how a key is
used: that is what makes the classic confusion (a public key taken for an HMAC secret) impossible.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import Algorithm, get_default_algorithms
from jwt.exceptions import PyJWTError

from protocol.bundle import JwtAlgorithm, JwtKey, JwtPolicy, Problem

_KEY_TYPES: Final[Mapping[str, str]] = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
_CURVES: Final[Mapping[str, frozenset[str]]] = {
    "ES256": frozenset({"P-256"}),
    "EdDSA": frozenset({"Ed25519", "Ed448"}),
}
_PRIVATE_MEMBER: Final = "d"


class UnusableKeyError(ValueError):
    """A key of the bundle that cannot verify anything. `problem` says which and why."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(f"{problem.path}: {problem.message}")


@dataclass(frozen=True, slots=True)
class ReadyKey:
    """One key, usable for `algorithm` and for tokens without `kid` or with one of `ids`."""

    algorithm: JwtAlgorithm
    ids: frozenset[str]
    _verifier: Algorithm = field(repr=False)
    _material: object = field(repr=False)

    def signed(self, signing_input: bytes, signature: bytes) -> bool:
        """Say whether `signature` is this key's over `signing_input`."""
        return bool(self._verifier.verify(signing_input, self._material, signature))


def ready_keys(
    policy: JwtPolicy, jwks: Mapping[str, bytes]
) -> tuple[tuple[ReadyKey, ...], tuple[Problem, ...]]:
    """Prepare a policy's keys; `jwks` holds the documents by the `jwks_file` they came from.

    Returns the keys and what is wrong with JWKS documents, which change behind the bundle's back
    and must not take a running daemon down: their unusable entries are left out.

    Raises:
        UnusableKeyError: for a secret or PEM text in the bundle itself that is none.
    """
    algorithms = get_default_algorithms()
    keys: list[ReadyKey] = []
    problems: list[Problem] = []
    for index, key in enumerate(policy.keys):
        place = f"$.jwt.keys[{index}]"
        algorithm = algorithms[key.algorithm]
        if key.jwks_file is not None:
            found = _from_document(key, algorithm, jwks.get(key.jwks_file))
            keys += found[0]
            problems += (Problem(f"{place}.jwks_file", message) for message in found[1])
        else:
            keys.append(
                ReadyKey(key.algorithm, frozenset({key.id}), algorithm, _material(key, place))
            )
    return tuple(keys), tuple(problems)


def _material(key: JwtKey, place: str) -> object:
    """Return what PyJWT verifies with: the secret's bytes or a public key object."""
    if key.algorithm == "HS256":
        try:
            return get_default_algorithms()["HS256"].prepare_key((key.secret or "").encode())
        except PyJWTError as error:
            raise UnusableKeyError(Problem(f"{place}.secret", str(error))) from error
    place = f"{place}.public_key"
    try:
        material: object = load_pem_public_key((key.public_key or "").encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnusableKeyError(Problem(place, "is not a PEM public key")) from error
    if not _fits(material, key.algorithm):
        raise UnusableKeyError(Problem(place, f"is not a key for algorithm {key.algorithm}"))
    return material


def _fits(material: object, algorithm: JwtAlgorithm) -> bool:
    """Say whether a public key is of the kind (and curve) that its algorithm needs."""
    if algorithm == "RS256":
        return isinstance(material, RSAPublicKey)
    if algorithm == "ES256":
        return isinstance(material, EllipticCurvePublicKey) and material.curve.name == "secp256r1"
    return algorithm == "EdDSA" and isinstance(material, Ed25519PublicKey | Ed448PublicKey)


def _from_document(
    key: JwtKey, algorithm: Algorithm, document: bytes | None
) -> tuple[list[ReadyKey], list[str]]:
    """Take the entries of a JWKS document (RFC 7517 §5) that serve `key`'s algorithm."""
    if document is None:
        return [], [f"{key.jwks_file} could not be read"]
    try:
        entries = orjson.loads(document)["keys"]
    except (ValueError, TypeError, KeyError):
        entries = None
    if not isinstance(entries, list):
        return [], [f'{key.jwks_file} is not a JWKS document: {{"keys": [...]}}']
    keys: list[ReadyKey] = []
    problems: list[str] = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("kid", ""), str):
            problems.append(f"{key.jwks_file}: entry {index} is malformed")
        elif _serves(entry, key.algorithm):
            material = _imported(algorithm, entry)
            if material is not None and _fits(material, key.algorithm):
                ids = frozenset({key.id, entry.get("kid", key.id)})
                keys.append(ReadyKey(key.algorithm, ids, algorithm, material))
            else:
                problems.append(f"{key.jwks_file}: entry {index} is no {key.algorithm} public key")
    if not keys:
        problems.append(f"{key.jwks_file} holds no key for algorithm {key.algorithm}")
    return keys, problems


def _serves(entry: Mapping[str, object], algorithm: JwtAlgorithm) -> bool:
    """Say whether an entry is meant to verify signatures of `algorithm` (RFC 7517 §4.1-4.4).

    Documents are shared: entries for other algorithms or for encryption are no fault.
    """
    operations = entry.get("key_ops")
    return (
        entry.get("kty") == _KEY_TYPES.get(algorithm)
        and entry.get("alg", algorithm) == algorithm
        and entry.get("use", "sig") == "sig"
        and (operations is None or (isinstance(operations, list) and "verify" in operations))
        and (algorithm not in _CURVES or str(entry.get("crv")) in _CURVES[algorithm])
    )


def _imported(algorithm: Algorithm, entry: Mapping[str, object]) -> object | None:
    """Return an entry's public key, or None when its members make none."""
    # Dropped before the import: a private key left in the document is never even loaded.
    public = {name: value for name, value in entry.items() if name != _PRIVATE_MEMBER}
    try:
        return cast("object", algorithm.from_jwk(public))
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm):
        return None
