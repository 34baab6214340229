"""Tokens that must pass, and the ways to cheat that must not (§12.2; RFC 8725)."""

import base64
import hashlib
import hmac
import json
from fractions import Fraction
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from daemon.engine.verification import MAX_TOKEN_BYTES, Verified, Verifier
from daemon.engine.verification_keys import ReadyKey, UnusableKeyError
from protocol.bundle import JwtAlgorithm, JwtKey, JwtPolicy

NOW = 1_700_000_000.0
SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105 - an example
HS = JwtKey("k1", "HS256", secret=SECRET)


def private_key(algorithm: JwtAlgorithm, number: int = 0) -> Any:  # noqa: ANN401 - three classes
    """Return the key of this algorithm and number, the same each time."""
    return generated_key(algorithm, number)


@cache
def generated_key(algorithm: JwtAlgorithm, _number: int) -> Any:  # noqa: ANN401 - as above
    if algorithm == "RS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def public_pem(key: Any) -> str:  # noqa: ANN401 - as above
    encoded: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode()


def jwk(key: Any, **members: object) -> dict[str, object]:  # noqa: ANN401 - as above
    public = key.public_key()
    if isinstance(key, rsa.RSAPrivateKey):
        entry = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        entry = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        entry = OKPAlgorithm.to_jwk(public, as_dict=True)
    entry.pop("key_ops", None)
    return {**entry, **members}


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def hs_token(payload: object, secret: bytes = SECRET.encode(), **header: object) -> bytes:
    """Sign by hand, so that headers no library would write can be written."""
    head = b64(json.dumps({"alg": "HS256", **header}).encode())
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signing_input = head + b"." + b64(body)
    return signing_input + b"." + b64(hmac.digest(secret, signing_input, hashlib.sha256))


def bearer(token: bytes | str) -> bytes:
    return b"Bearer " + (token.encode() if isinstance(token, str) else token)


def verifier(*keys: JwtKey, jwks: dict[str, bytes] | None = None, **policy: Any) -> Verifier:  # noqa: ANN401 - fields of the policy
    return Verifier(JwtPolicy(keys=keys, **policy), jwks or {})


def signed(algorithm: JwtAlgorithm, number: int = 0, kid: str | None = None) -> bytes:
    headers = None if kid is None else {"kid": kid}
    key = private_key(algorithm, number)
    return bearer(jwt.encode({"sub": "u1"}, key, algorithm=algorithm, headers=headers))


ASYMMETRIC: list[JwtAlgorithm] = ["RS256", "ES256", "EdDSA"]


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_a_pem_key_verifies_its_own_algorithm(algorithm: JwtAlgorithm) -> None:
    checked = verifier(JwtKey("k", algorithm, public_key=public_pem(private_key(algorithm))))
    assert checked.verify(signed(algorithm), NOW) == Verified({"sub": "u1"})
    assert checked.verify(signed(algorithm, number=1), NOW) is None
    assert checked.verify(signed(algorithm, kid="k"), NOW) == Verified({"sub": "u1"})
    assert checked.verify(signed(algorithm, kid="other"), NOW) is None


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_a_jwks_entry_is_used_by_its_kid_and_by_the_keys_id(algorithm: JwtAlgorithm) -> None:
    entries = [jwk(private_key(algorithm, n), kid=f"kid{n}", use="sig") for n in (0, 1)]
    checked = verifier(
        JwtKey("file", algorithm, jwks_file="keys.json"),
        jwks={"keys.json": json.dumps({"keys": entries}).encode()},
    )
    assert checked.problems == ()
    for number in (0, 1):
        for kid in (None, "file", f"kid{number}"):
            assert checked.verify(signed(algorithm, number, kid), NOW) is not None
        assert checked.verify(signed(algorithm, number, f"kid{1 - number}"), NOW) is None
    assert checked.verify(signed(algorithm, kid="third"), NOW) is None


def test_two_entries_may_share_a_kid() -> None:
    entries = [jwk(private_key("ES256", n), kid="same") for n in (0, 1)]
    checked = verifier(
        JwtKey("file", "ES256", jwks_file="f"), jwks={"f": json.dumps({"keys": entries}).encode()}
    )
    for number in (0, 1):
        assert checked.verify(signed("ES256", number, "same"), NOW) is not None


def test_a_document_may_hold_keys_for_others() -> None:
    entries = [
        jwk(private_key("RS256"), kid="r"),
        jwk(private_key("ES256", 1), kid="enc", use="enc"),
        jwk(private_key("ES256", 2), kid="alg", alg="ES384"),
        jwk(private_key("ES256", 3), kid="ops", key_ops=["sign"]),
        jwk(ec.generate_private_key(ec.SECP384R1()), kid="p384"),
        {"kty": "oct", "k": "c2VjcmV0"},
        jwk(private_key("ES256"), kid="mine", alg="ES256", key_ops=["verify"]),
    ]
    checked = verifier(
        JwtKey("file", "ES256", jwks_file="f"), jwks={"f": json.dumps({"keys": entries}).encode()}
    )
    assert checked.problems == ()
    assert checked.verify(signed("ES256", kid="mine"), NOW) is not None
    for number, kid in ((1, "enc"), (2, "alg"), (3, "ops")):
        assert checked.verify(signed("ES256", number, kid), NOW) is None


def test_a_private_jwk_serves_by_its_public_half() -> None:
    entry = OKPAlgorithm.to_jwk(private_key("EdDSA"), as_dict=True)
    checked = verifier(
        JwtKey("file", "EdDSA", jwks_file="f"), jwks={"f": json.dumps({"keys": [entry]}).encode()}
    )
    assert checked.verify(signed("EdDSA"), NOW) is not None


def test_bad_entries_are_reported_and_passed_over() -> None:
    good = jwk(private_key("RS256"), kid="good")
    entries = [1, {"kty": "RSA", "n": "!!"}, {"kty": "RSA", "kid": 7}, {"kty": "RSA"}, good]
    checked = verifier(
        JwtKey("other", "HS256", secret=SECRET),
        JwtKey("file", "RS256", jwks_file="f"),
        jwks={"f": json.dumps({"keys": entries}).encode()},
    )
    assert [problem.path for problem in checked.problems] == ["$.jwt.keys[1].jwks_file"] * 4
    assert [f"entry {n}" in p.message for n, p in enumerate(checked.problems)] == [True] * 4
    assert checked.verify(signed("RS256", kid="good"), NOW) is not None


@pytest.mark.parametrize(
    ("document", "fragment"),
    [
        (None, "could not be read"),
        (b"", "not a JWKS document"),
        (b"[]", "not a JWKS document"),
        (b'{"keys": {}}', "not a JWKS document"),
        (b'{"keys": []}', "no key for algorithm ES256"),
        (b'{"keys": [{"kty": "EC", "crv": ["P-256"]}]}', "no key for algorithm ES256"),
        (b'{"keys": [{"kty": "EC", "crv": "P-256", "x": 1, "y": 2}]}', "entry 0"),
    ],
)
def test_a_bad_document_is_reported(document: bytes | None, fragment: str) -> None:
    jwks = {} if document is None else {"f": document}
    checked = verifier(JwtKey("file", "ES256", jwks_file="f"), jwks=jwks)
    assert any(fragment in problem.message for problem in checked.problems)
    assert checked.verify(signed("ES256"), NOW) is None


RSA_PEM = public_pem(private_key("RS256"))


@pytest.mark.parametrize(
    ("key", "place"),
    [
        (JwtKey("k", "RS256", public_key="nonsense"), "$.jwt.keys[1].public_key"),
        (JwtKey("k", "RS256", public_key=""), "$.jwt.keys[1].public_key"),
        (JwtKey("k", "ES256", public_key=RSA_PEM), "$.jwt.keys[1].public_key"),
        (JwtKey("k", "EdDSA", public_key=RSA_PEM), "$.jwt.keys[1].public_key"),
        (
            JwtKey("k", "ES256", public_key=public_pem(ec.generate_private_key(ec.SECP384R1()))),
            "$.jwt.keys[1].public_key",
        ),
        (
            JwtKey(
                "k",
                "EdDSA",
                public_key=private_key("EdDSA")
                .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                .decode(),
            ),
            "$.jwt.keys[1].public_key",
        ),
        (JwtKey("k", "HS256", secret=RSA_PEM), "$.jwt.keys[1].secret"),
        (JwtKey("k", "HS256", secret=""), "$.jwt.keys[1].secret"),
    ],
)
def test_an_unusable_key_is_named(key: JwtKey, place: str) -> None:
    with pytest.raises(UnusableKeyError) as caught:
        verifier(HS, key)
    assert str(caught.value).startswith(f"{place}: ")
    assert caught.value.problem.path == place


def test_no_secret_is_shown() -> None:
    assert SECRET not in repr(HS)
    assert SECRET not in repr(ReadyKey("HS256", frozenset({"k"}), None, SECRET))  # type: ignore[arg-type]


def test_confusion_of_algorithms_leads_nowhere() -> None:
    public = public_pem(private_key("RS256"))
    checked = verifier(JwtKey("r", "RS256", public_key=public), HS)
    for secret in (public.encode(), public.strip().encode(), b""):
        assert checked.verify(bearer(hs_token({"sub": "a"}, secret)), NOW) is None
        assert checked.verify(bearer(hs_token({"sub": "a"}, secret, kid="r")), NOW) is None
    # The right secret under the other key's id is still the wrong key.
    assert checked.verify(bearer(hs_token({"sub": "a"}, kid="r")), NOW) is None
    assert checked.verify(bearer(hs_token({"sub": "a"}, kid="k1")), NOW) is not None


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", "hs256", "HS384", "HS512", None, 1])
def test_other_algorithms_are_refused(alg: object) -> None:
    good = hs_token({"sub": "u"}, alg=alg)
    body, _, _ = good.rpartition(b".")
    for token in (good, body + b"."):
        assert verifier(HS).verify(bearer(token), NOW) is None


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": ["b64"], "b64": True},
        {"crit": None},
        {"b64": False},
        {"b64": None},
        {"b64": 1},
        {"kid": None},
        {"kid": 1},
        {"kid": ["k1"]},
        {"kid": ""},
        {"kid": "K1"},
        {"kid": "../../dev/null"},
        {"kid": "k1' OR '1'='1"},
    ],
)
def test_header_tricks_are_refused(header: dict[str, Any]) -> None:
    assert verifier(HS).verify(bearer(hs_token({"sub": "u"}, **header)), NOW) is None


def test_keys_offered_by_a_token_are_not_used() -> None:
    key = private_key("EdDSA", 5)
    for headers in ({"jwk": jwk(key)}, {"jku": "https://evil.example/jwks"}, {"x5c": ["MII"]}):
        token = jwt.encode({"sub": "u"}, key, algorithm="EdDSA", headers=headers)
        public = public_pem(private_key("EdDSA"))
        checked = verifier(JwtKey("k", "EdDSA", public_key=public))
        assert checked.verify(bearer(token), NOW) is None


def test_b64_true_and_unknown_headers_are_fine() -> None:
    token = hs_token({"sub": "u"}, b64=True, typ="JWT", cty="x", jku="https://elsewhere.example")
    assert verifier(HS).verify(bearer(token), NOW) is not None


def test_every_truncation_is_refused() -> None:
    whole = bearer(hs_token({"sub": "u"}))
    checked = verifier(HS)
    assert [n for n in range(len(whole)) if checked.verify(whole[:n], NOW)] == []
    assert checked.verify(whole, NOW) is not None


@given(st.integers(7, 115), st.integers(1, 255))
def test_every_changed_byte_is_refused(at: int, change: int) -> None:
    whole = bytearray(bearer(hs_token({"sub": "u"})))
    at = min(at, len(whole) - 2)  # the last character carries two bits that mean nothing
    whole[at] ^= change
    assert verifier(HS).verify(bytes(whole), NOW) is None


def test_tokens_that_are_too_long_are_refused() -> None:
    def token(size: int) -> bytes:
        return bearer(hs_token({"sub": "u", "pad": "x" * size}))

    checked = verifier(HS)
    assert checked.verify(token(8_000), NOW) is not None
    huge = token(MAX_TOKEN_BYTES)
    assert checked.verify(huge, NOW) is None


@pytest.mark.parametrize("payload", [b"[]", b'"sub"', b"null", b"", b"{", b"\xff", b'{"exp":NaN}'])
def test_a_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    assert verifier(HS).verify(bearer(hs_token(payload)), NOW) is None


@pytest.mark.parametrize(
    ("claims", "valid"),
    [
        ({"exp": NOW - 29}, True),
        ({"exp": int(NOW) - 30}, False),
        ({"exp": NOW - 29.999}, True),
        ({"exp": NOW - 30.0}, False),
        ({"exp": 1e300}, True),
        ({"exp": -1}, False),
        ({"exp": 0}, False),
        ({"nbf": int(NOW) + 30}, True),
        ({"nbf": int(NOW) + 31}, False),
        ({"nbf": NOW + 30.001}, False),
        ({"iat": NOW + 9999}, True),
        ({"exp": None}, False),
        ({"exp": "1800000000"}, False),
        ({"exp": True}, False),
        ({"exp": [1800000000]}, False),
        ({"nbf": "0"}, False),
        ({"nbf": None}, False),
        ({"nbf": False}, False),
    ],
)
def test_times(claims: dict[str, object], valid: bool) -> None:  # noqa: FBT001 - a column of the table
    checked = verifier(HS)
    header = bearer(hs_token(claims))
    for _ in range(2):  # the second answer comes from memory
        assert (checked.verify(header, NOW) is not None) is valid


def test_a_remembered_token_expires_and_begins_on_time() -> None:
    header = bearer(hs_token({"nbf": 1000, "exp": 2000}))
    checked = verifier(HS, leeway_seconds=Fraction(1, 2))
    times = [999.4, 999.5, 1500.0, 2000.4, 2000.5, 999.4, 2000.4]
    answers = [checked.verify(header, now) is not None for now in times]
    assert answers == [False, True, True, True, False, False, True]


@given(
    st.integers(-10, 10) | st.floats(-10, 10),
    st.fractions(0, 5, max_denominator=8),
    st.floats(-20, 20),
)
def test_expiry_is_exact(offset: float, leeway: Fraction, drift: float) -> None:
    header = bearer(hs_token({"exp": offset}))
    valid = verifier(HS, leeway_seconds=leeway).verify(header, drift) is not None
    assert valid is (Fraction(drift) < Fraction(offset) + leeway)


@pytest.mark.parametrize(
    ("claims", "valid"),
    [
        ({"aud": "a", "iss": "i"}, True),
        ({"aud": ["x", "b"], "iss": "i"}, True),
        ({"aud": ["x"], "iss": "i"}, False),
        ({"aud": [], "iss": "i"}, False),
        ({"aud": [["a"], 1, None], "iss": "i"}, False),
        ({"aud": {"a": 1}, "iss": "i"}, False),
        ({"aud": None, "iss": "i"}, False),
        ({"aud": "A", "iss": "i"}, False),
        ({"iss": "i"}, False),
        ({"aud": "a"}, False),
        ({"aud": "a", "iss": "I"}, False),
        ({"aud": "a", "iss": ["i"]}, False),
        ({"aud": "a", "iss": None}, False),
    ],
)
def test_audience_and_issuer(claims: dict[str, object], valid: bool) -> None:  # noqa: FBT001 - a column of the table
    checked = verifier(HS, audience=("a", "b"), issuer="i")
    assert (checked.verify(bearer(hs_token(claims)), NOW) is not None) is valid


def test_audience_and_issuer_do_not_matter_unless_asked_for() -> None:
    header = bearer(hs_token({"aud": 7, "iss": 7}))
    assert verifier(HS).verify(header, NOW) is not None


def test_without_keys_nothing_is_verified() -> None:
    assert verifier().verify(bearer(hs_token({"sub": "u"})), NOW) is None


class Counting:
    """A stand-in for a key that counts how often it is asked."""

    def __init__(self, key: ReadyKey) -> None:
        self.key = key
        self.algorithm = key.algorithm
        self.ids = key.ids
        self.asked = 0

    def signed(self, signing_input: bytes, signature: bytes) -> bool:
        self.asked += 1
        return self.key.signed(signing_input, signature)


def test_neither_good_nor_bad_tokens_cost_a_second_signature() -> None:
    checked = verifier(HS)
    key = Counting(checked._keys[0])
    checked._keys = (key,)  # type: ignore[assignment]
    good, bad = bearer(hs_token({"sub": "u"})), bearer(hs_token({"sub": "u"}, b"wrong" * 8))
    for _ in range(100):
        assert checked.verify(good, NOW) is not None
        assert checked.verify(bad, NOW) is None
    assert key.asked == 2
    for number in range(10_000):  # a flood of forgeries
        assert checked.verify(good[:-5] + b"%05d" % number, NOW) is None
    before = key.asked
    assert checked.verify(good, NOW) is not None
    assert key.asked == before
