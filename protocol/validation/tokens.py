"""Token verification: `jwt` and its alias `jwt_keys` (§12).

Messages do not show what stands where keys belong: a secret in the wrong place is still one.
"""

from fractions import Fraction
from typing import get_args

from protocol.bundle import JwtAlgorithm, JwtKey, JwtPolicy
from protocol.validation.amounts import NON_NEGATIVE_SPAN
from protocol.validation.fields import Fields, is_text, open_item
from protocol.validation.public_keys import public_key_fault
from protocol.validation.report import item
from protocol.validation.wording import show

_ALGORITHMS: tuple[JwtAlgorithm, ...] = get_args(JwtAlgorithm)
_SHORTEST_SECRET = 32
_LEEWAY = Fraction(30)
_KEYS_WORDS = "a non-empty array of verification keys"


def read_jwt(document: Fields) -> JwtPolicy:
    """Read token verification; a policy without keys if the bundle has none."""
    aliased = document.has("jwt_keys")
    alias_keys = _keys(document, "jwt_keys") if aliased else ()
    fields = document.section("jwt", shown=False)
    if fields is None:
        return JwtPolicy(keys=alias_keys)
    keys = alias_keys
    if fields.has("keys") or not aliased:
        keys = _keys(fields, "keys")
    if fields.has("keys") and aliased:
        document.error("jwt_keys", "use either jwt.keys or its alias jwt_keys, not both")
    policy = JwtPolicy(
        keys=keys,
        required=fields.boolean("required", default=False),
        audience=_audience(fields),
        issuer=fields.text("issuer") if fields.has("issuer") else None,
        leeway_seconds=fields.number("leeway_seconds", NON_NEGATIVE_SPAN, default=_LEEWAY),
    )
    fields.close()
    return policy


def warn_if_unverified(document: Fields, keys_in_use: set[str]) -> None:
    """Warn if claims decide anything although no token is verified (§12.1)."""
    claims = sorted(key for key in keys_in_use if key.startswith("jwt:"))
    if claims and not document.has("jwt") and not document.has("jwt_keys"):
        document.warning(
            "jwt",
            f"{claims[0]} is read from tokens without verification: the gateway in front must "
            "have verified the token, or anyone can claim anything; else add jwt.keys",
        )


def _audience(fields: Fields) -> tuple[str, ...]:
    if not fields.has("audience"):
        return ()
    value = fields.raw("audience")
    values = value if isinstance(value, list) else [value]
    audience = tuple(each for each in values if is_text(each))
    # An empty audience would read as "none configured" and let every token in.
    if not audience or len(audience) < len(values):
        fields.demand("audience", "a non-empty string or a non-empty array of such strings")
    return audience


def _keys(fields: Fields, name: str) -> tuple[JwtKey, ...]:
    keys = []
    first_use: dict[str, int] = {}
    values = fields.array(name, _KEYS_WORDS, filled=True, shown=False)
    for index in range(len(values)):
        place = fields.at(name)
        entry = open_item(values, index, place, "a verification key", fields.findings, shown=False)
        if entry is None:
            continue
        key = _key(entry)
        if entry.sound("id"):
            first = first_use.setdefault(key.id, index)
            if first != index:
                other = item(fields.at(name), first)
                entry.error("id", f"duplicate key id {show(key.id)}: {other} has it too")
        keys.append(key)
    return tuple(keys)


def _key(entry: Fields) -> JwtKey:
    key_id = entry.text("id")
    algorithm = entry.choice("algorithm", _ALGORITHMS)
    sources = tuple(name for name in ("secret", "public_key", "jwks_file") if entry.has(name))
    if entry.sound("algorithm"):
        fault = _source_fault(entry, algorithm, sources)
        if fault:
            entry.findings.error(entry.path, fault)
    entry.close()
    secret, public_key, jwks_file = (
        value if is_text(value) else None
        for value in map(entry.raw, ("secret", "public_key", "jwks_file"))
    )
    return JwtKey(key_id, algorithm, secret, public_key, jwks_file)


def _source_fault(entry: Fields, algorithm: JwtAlgorithm, sources: tuple[str, ...]) -> str | None:
    """Return what is wrong with a key's source. Never shows it: it may be a secret."""
    given = f"; given: {', '.join(sources)}" if sources else "; none is given"
    if algorithm == "HS256":
        if sources != ("secret",):
            return f"an HS256 key needs a secret, and no other source{given}"
        secret = entry.raw("secret")
        if not is_text(secret):
            return "the secret of an HS256 key must be a non-empty string"
        if len(secret.encode()) < _SHORTEST_SECRET:
            entry.warning(
                "secret",
                f"an HS256 secret should have at least {_SHORTEST_SECRET} bytes, "
                f"or it can be guessed; this one has {len(secret.encode())}",
            )
        return None
    if sources not in (("public_key",), ("jwks_file",)):
        return f"an {algorithm} key needs exactly one of public_key (PEM) and jwks_file{given}"
    value = entry.raw(sources[0])
    if not is_text(value):
        return f"{sources[0]} (the public_key or jwks_file) must be a non-empty string"
    return public_key_fault(value, algorithm) if sources == ("public_key",) else None
