"""Every known way to get a forged token taken, through the engine (RFC 8725, RFC 7515 §10).

The bundle holds a key of each kind and requires a token. What is refused is 401 `invalid_token`,
whatever the token's claims; what is accepted is a token that its issuer has signed.
"""

import base64
from typing import Any

import pytest

from daemon.engine.verification import MAX_TOKEN_BYTES
from tests.daemon.engine.forgery import (
    ED25519_ORDER,
    HALF,
    KEYS,
    P256_ORDER,
    RSA_KEY,
    SECRET,
    STRANGER,
    b64,
    ed,
    es,
    es_der,
    hs,
    pem,
    plain,
    resigned,
    rs,
    token,
)

HS, RS, ES, ED = ({"alg": alg} for alg in ("HS256", "RS256", "ES256", "EdDSA"))
NOW_S = 1_770_000_000


def with_public_key(text: str, **header: object) -> bytes:
    return token({"alg": "HS256", **header}, sign=lambda data: hs(data, text.encode()))


def raw(number: int) -> bytes:
    return number.to_bytes(HALF, "big")


def other_s(signature: bytes) -> bytes:
    s = int.from_bytes(signature[HALF:], "big")
    return signature[:HALF] + raw(P256_ORDER - s)


def larger_s(signature: bytes) -> bytes:
    s = int.from_bytes(signature[HALF:], "little") + ED25519_ORDER
    return signature[:HALF] + s.to_bytes(HALF, "little")


def spelled(whole: bytes, old: bytes, new: bytes) -> bytes:
    assert old in whole
    return whole.replace(old, new)


def last_bits(whole: bytes) -> bytes:
    """Return a token with another last character that decodes to the same bytes."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at = alphabet.index(whole[-1])
    return whole[:-1] + bytes([alphabet[at ^ 1]])


def stranger(**header: object) -> bytes:
    return token({"alg": "EdDSA", **header}, sign=STRANGER.sign)


GOOD = plain()
HEAD, BODY, SIGNATURE = GOOD.split(b".")
STRANGERS_JWK = {
    "kty": "OKP",
    "crv": "Ed25519",
    "x": b64(STRANGER.public_key().public_bytes_raw()).decode(),
}
PLUS_SLASH = next(each for n in range(99) if b"-" in (each := plain({"n": n})).rpartition(b".")[2])
ZERO = bytes(2 * HALF)

ACCEPTED = {
    "hs": GOOD,
    "rs": token(RS, sign=rs),
    "es": token(ES, sign=es),
    "ed": token(ED, sign=ed),
    "kid": plain(kid="hs"),
    "es-other-s": resigned(other_s, ES, es),  # as ECDSA is: whoever holds it may do so
    "alg-twice-last-is-true": token(b'{"alg":"none","alg":"HS256"}'),
    "foreign-headers": plain(jku="https://evil.example", x5u="https://evil.example", jwk={}),
    "claims-twice": plain(b'{"sub":"a","sub":"u"}'),
    "exp-huge": plain({"sub": "u", "exp": 2**63}),
    "exp-1e300": plain(b'{"sub":"u","exp":1e300}'),
    "nbf-negative": plain({"sub": "u", "nbf": -(2**63)}),
}
REFUSED = {
    # which algorithm
    "public-key-as-secret": with_public_key(pem(RSA_KEY)),
    "public-key-as-secret-stripped": with_public_key(pem(RSA_KEY).strip()),
    "public-key-as-secret-kid": with_public_key(pem(RSA_KEY), kid="rs"),
    "public-key-der-as-secret": token(
        HS, sign=lambda data: hs(data, base64.b64decode("".join(pem(RSA_KEY).splitlines()[1:-1])))
    ),
    "empty-secret": token(HS, sign=lambda data: hs(data, b"")),
    "key-id-as-secret": token(HS, sign=lambda data: hs(data, b"hs")),
    **{
        f"alg-{alg}{signed}": token({"alg": alg}, sign=hs if signed else lambda _: b"")
        for alg in ("none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "HS384", "HS512",
                    "RS512", "PS256", "ES384", "dir", "A256KW", "HS256\0")
        for signed in ("", "-signed")
    },
    "alg-missing": token({"typ": "JWT"}),
    "alg-null": plain(alg=None),
    "alg-list": plain(alg=["HS256"]),
    "alg-object": plain(alg={"HS256": 1}),
    "alg-number": plain(alg=256),
    "alg-twice": token(b'{"alg":"HS256","alg":"none"}', sign=lambda _: b""),
    "rs-said-hs-signed": token(RS),
    "es-said-ed-signed": token(ES, sign=ed),
    "ed-said-es-signed": token(ED, sign=es),
    "hs-said-rs-signed": token(HS, sign=rs),
    # which key
    "kid-of-another-key": plain(kid="rs"),
    "kid-path": plain(kid="../../../../../dev/null"),
    "kid-file": token(HS | {"kid": "/dev/null"}, sign=lambda data: hs(data, b"")),
    "kid-sql": plain(kid="hs' UNION SELECT 'x' --"),
    "kid-shell": plain(kid="hs|id"),
    "kid-long": plain(kid="k" * 8000),
    "kid-number": plain(kid=1),
    "kid-null": plain(kid=None),
    "kid-list": plain(kid=["hs"]),
    "kid-object": plain(kid={"hs": "hs"}),
    "kid-empty": plain(kid=""),
    "kid-nul": plain(kid="hs\0"),
    "kid-case": plain(kid="HS"),
    "kid-surrogate": token(b'{"alg":"HS256","kid":"\\ud800"}'),
    "jwk": stranger(jwk=STRANGERS_JWK),
    "jwk-kid": stranger(jwk=STRANGERS_JWK, kid="ed"),
    "jku": stranger(jku="https://evil.example/jwks.json"),
    "x5u": stranger(x5u="https://evil.example/cert.pem"),
    "x5c": stranger(x5c=["MIIB"]),
    "crit": plain(crit=["exp"]),
    "crit-empty": plain(crit=[]),
    "crit-unknown": plain(crit=["http://example.com/UNDEFINED"]),
    "b64-false": plain(b64=False),
    # signatures
    "signature-empty": HEAD + b"." + BODY + b".",
    "signature-gone": HEAD + b"." + BODY,
    "signature-short": GOOD[:-4],
    "signature-of-another": HEAD + b"." + b64(b'{"sub":"admin"}') + b"." + SIGNATURE,
    "es-zero": resigned(lambda _: ZERO, ES, es),
    "es-r-zero": resigned(lambda s: bytes(HALF) + s[HALF:], ES, es),
    "es-s-zero": resigned(lambda s: s[:HALF] + bytes(HALF), ES, es),
    "es-order": resigned(lambda _: raw(P256_ORDER) * 2, ES, es),
    "es-one": resigned(lambda _: raw(1) * 2, ES, es),
    "es-der": token(ES, sign=es_der),
    "es-short": resigned(lambda s: s[:-1], ES, es),
    "es-long": resigned(lambda s: s + b"\0", ES, es),
    "es-led": resigned(lambda s: b"\0" + s[:HALF] + b"\0" + s[HALF:], ES, es),
    "ed-zero": resigned(lambda _: ZERO, ED, ed),
    "ed-larger-s": resigned(larger_s, ED, ed),
    "ed-long": resigned(lambda s: s + b"\0", ED, ed),
    "ed-identity": resigned(lambda _: b"\1" + bytes(63), ED, ed),
    "rs-zero": resigned(lambda s: bytes(len(s)), RS, rs),
    "rs-led": resigned(lambda s: b"\0" + s, RS, rs),
    "rs-long": resigned(lambda s: s + b"\0", RS, rs),
    "rs-one": resigned(lambda s: bytes(len(s) - 1) + b"\1", RS, rs),
    # spelling
    "padded": GOOD + b"=",
    "padded-more": GOOD + b"==",
    "head-padded": HEAD + b"=." + BODY + b"." + SIGNATURE,
    "last-bits": last_bits(GOOD),
    "plain-base64": PLUS_SLASH.rpartition(b".")[0]
    + b"."
    + PLUS_SLASH.rpartition(b".")[2].replace(b"-", b"+").replace(b"_", b"/"),
    "blank-inside": spelled(GOOD, BODY, BODY[:4] + b" " + BODY[4:]),
    "tab-behind": GOOD + b"\t",
    "blank-first": b" " + GOOD,
    "line-end": GOOD + b"\n",
    "nul": GOOD + b"\0",
    "high-byte": GOOD + b"\xff",
    "dot-behind": GOOD + b".",
    "dot-first": b"." + GOOD,
    "only-dots": b"..",
    "no-dots": b"token",
    "jwe": b".".join((b64(b'{"alg":"dir","enc":"A128GCM"}'), b"", b64(b"i"), b64(b"x"), b64(b"t"))),
    "two-tokens": GOOD + b"," + GOOD,
    "nested": token(HS | {"cty": "JWT"}, GOOD + b"x"),
    # JSON
    "header-list": token([HS]),
    "header-text": token(b'"HS256"'),
    "header-deep": token(b'{"alg":"HS256","x":' + b"[" * 3000 + b"]" * 3000 + b"}"),
    "payload-deep": plain(b'{"sub":"u","x":' + b"[" * 3000 + b"]" * 3000 + b"}"),
    "payload-list": plain([{"sub": "u"}]),
    "payload-empty": plain(b""),
    "payload-not-utf8": plain(b'{"sub":"\xff"}'),
    "payload-bom": plain(b'\xef\xbb\xbf{"sub":"u"}'),
    "payload-comment": plain(b'{"sub":"u"/**/}'),
    "oversized": plain({"sub": "u", "x": "x" * MAX_TOKEN_BYTES}),
    # times
    "exp-text": plain({"exp": str(NOW_S + 60)}),
    "exp-nan": plain(b'{"exp":NaN}'),
    "exp-infinity": plain(b'{"exp":Infinity}'),
    "exp-1e400": plain(b'{"exp":1e400}'),
    "exp-digits": plain(b'{"exp":' + b"9" * 5000 + b"}"),
    "exp-negative": plain({"exp": -1}),
    "exp-true": plain({"exp": True}),
    "exp-null": plain({"exp": None}),
    "exp-list": plain({"exp": [NOW_S + 60]}),
    "exp-past": plain({"exp": NOW_S - 31}),
    "exp-twice": plain(b'{"exp":9999999999,"exp":1}'),
    "nbf-text": plain({"nbf": "0"}),
    "nbf-later": plain({"nbf": NOW_S + 31}),
    "nbf-1e400": plain(b'{"nbf":-1e400}'),
}  # fmt: skip


@pytest.fixture(name="box", scope="module")
def _box(play: Any) -> Any:  # noqa: ANN401 - the fixture's
    policy = play.policy(play.rule("jwt:sub"))
    return play.box({"policies": [policy], "jwt": {"keys": KEYS, "required": True}})


def decide(box: Any, play: Any, text: bytes) -> tuple[int, str]:  # noqa: ANN401
    headers = {"authorization": "Bearer " + text.decode("latin-1")}
    request = play.ask(headers=headers)
    request.headers[b"authorization"] = b"Bearer " + text
    decision = box.decide(request).decision
    return decision.status, decision.reason


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_the_issuer_has_signed_is_accepted(box: Any, play: Any, name: str) -> None:  # noqa: ANN401
    status, reason = decide(box, play, ACCEPTED[name])
    assert reason in {"all_rules_passed", "rate_limit_exceeded"}, status


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_forged_is_refused(box: Any, play: Any, name: str) -> None:  # noqa: ANN401
    for _ in range(2):  # the second answer comes from memory
        assert decide(box, play, REFUSED[name]) == (401, "invalid_token")


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer:", "JWT", "Basic", ""])
def test_only_the_scheme_bearer_counts(box: Any, play: Any, scheme: str) -> None:  # noqa: ANN401
    request = play.ask(headers={"authorization": f"{scheme} {GOOD.decode()}"})
    assert box.decide(request).decision.reason == "invalid_token"


def test_without_required_a_forged_token_has_no_claims(play: Any) -> None:  # noqa: ANN401
    rule = play.rule("jwt:sub", on_missing="reject")
    box = play.box({"policies": [play.policy(rule)], "jwt": {"keys": KEYS}})
    for text in REFUSED.values():
        assert decide(box, play, text) == (429, "descriptor_missing")


def test_a_forgery_is_not_taken_for_the_token_that_it_was_made_from(box: Any, play: Any) -> None:  # noqa: ANN401
    """Neither order leaves anything in the cache that helps the other."""
    signing_input = HEAD + b"." + b64(b'{"sub":"cache"}')
    good = signing_input + b"." + b64(hs(signing_input))
    bad = signing_input + b"." + b64(hs(signing_input, b"wrong" * 8))
    for text, refused in ((bad, True), (good, False), (bad, True), (good, False)):
        assert (decide(box, play, text)[1] == "invalid_token") is refused


def test_a_token_of_the_old_key_is_nothing_under_the_new_one(play: Any) -> None:  # noqa: ANN401
    policies = [play.policy(play.rule("jwt:sub"))]

    def with_secret(secret: str) -> Any:  # noqa: ANN401
        key = {"id": "hs", "algorithm": "HS256", "secret": secret}
        return play.box({"policies": policies, "jwt": {"keys": [key], "required": True}})

    old, new = with_secret(SECRET), with_secret(SECRET[::-1])
    assert decide(old, play, GOOD)[1] == "all_rules_passed"
    assert decide(new, play, GOOD)[1] == "invalid_token"
    assert decide(old, play, GOOD)[1] != "invalid_token"
