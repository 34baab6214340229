"""The shapes of what stands beside the policies (§2.2, §5.5.3, §6.1, §12.2)."""

from protocol import bundle
from protocol.schema.parts import (
    BOOLEAN,
    MOMENT,
    PATH,
    TEXT,
    Schema,
    array_of,
    enum,
    has,
    number,
    object_of,
    ref,
    switchable,
    told,
    when,
)
from protocol.validation import amounts


def kill_switch() -> Schema:
    """Return the shape of a kill switch (§6.1)."""
    return object_of(
        {
            "scope_key": told(ref("descriptorKey"), "The descriptor that tells who is meant."),
            "scope_value": told(TEXT, "The descriptor's value."),
            "route": told(PATH, "The only path that is blocked; without it, every path."),
            "reason": told({"type": "string"}, "For operators."),
            "expires_at": told(MOMENT, "Until when (UTC); without it, for good."),
        },
        required=["scope_key", "scope_value"],
    )


def override() -> Schema:
    """Return the shape of an override block (§2.2)."""
    schema = switchable(
        {
            "reason": told({}, "Why it is on; at most 256 bytes."),
            "expires_at": told({}, "When it ends by itself (UTC)."),
        },
        {"reason": {**TEXT, "maxLength": 256}, "expires_at": MOMENT},
        ["reason", "expires_at"],
    )
    return schema | {"required": ["enabled"]}


def jwt() -> Schema:
    """Return the shape of `jwt` (§12.2)."""
    return object_of(
        {
            "keys": told(array_of(ref("jwtKey"), minItems=1), "The keys that tokens may use."),
            "required": told(
                BOOLEAN, "Whether requests without a valid token are refused.", default=False
            ),
            "audience": told(
                {"anyOf": [TEXT, array_of(TEXT, minItems=1)]}, "Accepted values of `aud`."
            ),
            "issuer": told(TEXT, "The accepted `iss`."),
            "leeway_seconds": told(
                number(amounts.NON_NEGATIVE_SPAN), "How far clocks may differ.", 30
            ),
        }
    )


def jwt_key() -> Schema:
    """Return the shape of a verification key (§12.2)."""
    public = ("public_key", "jwks_file")
    return object_of(
        {
            "id": told(TEXT, "Unique; a token's `kid` must equal it."),
            "algorithm": told(enum(bundle.JwtAlgorithm), "The only `alg` this key is for."),
            "secret": told({}, "For HS256: the shared secret, 32 bytes or more."),
            "public_key": told({}, "For the others: the key in PEM."),
            "jwks_file": told({}, "For the others: a file with a JWK set."),
        },
        required=["id", "algorithm"],
        allOf=[
            when(
                has("algorithm", {"const": "HS256"}),
                {
                    "required": ["secret"],
                    "properties": {"secret": TEXT, **dict.fromkeys(public, False)},
                },
                {
                    "properties": {"secret": False, **dict.fromkeys(public, TEXT)},
                    "oneOf": [{"required": [name]} for name in public],
                },
            )
        ],
    )


def model_price() -> Schema:
    """Return the shape of a price (§5.5.3)."""
    price: Schema = {
        "anyOf": [
            number(amounts.NON_NEGATIVE),
            {"type": "string", "pattern": "^[0-9]{1,20}([.][0-9]{1,20})?$"},
        ]
    }
    return object_of(
        {
            "input_per_million": told(price, "US dollars per million prompt tokens."),
            "output_per_million": told(price, "US dollars per million completion tokens."),
        },
        required=["input_per_million", "output_per_million"],
    )
