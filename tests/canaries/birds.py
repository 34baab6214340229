"""The canaries: one for every place where a secret can stand, and where each of them may be seen.

A canary is looked for as it is, and in the spellings that logs and dumps give things: base64,
percent-encoding, hexadecimal. Nobody but those who were given it may show it.
"""

import base64
from collections.abc import Iterable
from urllib.parse import quote

from tests.daemon.engine.forgery import b64, hs, token

MARK = "canary"

SIGNING_KEY = f"{MARK}-signing-key-3c1e"
DEBUG_SECRET = f"{MARK}-debug-secret-9b27"
INJECTED_KEY = f"{MARK}-injected-upstream-key-77d0"
HS256_SECRET = f"{MARK}-hs256-secret-of-at-least-32-bytes-51aa"
COMPOSITE_KEY = f"sk-{MARK}-composite-key-e4f2"
API_KEY = f"{MARK}-api-key-a8c3"
BASIC = base64.b64encode(f"user:{MARK}-password-0f6d".encode()).decode()
COOKIE = f"{MARK}-cookie-2d91"
QUERY_TOKEN = f"{MARK}-query-token-6b0e"
QUERY_KEY = f"{MARK}-query-key-c5f8"
REQUEST_BODY = f"{MARK}-request-body-1a77"
RESPONSE_BODY = f"{MARK}-response-body-84e5"
ADMIN_AUTH = f"{MARK}-admin-authorization-d3b6"
MISPLACED = f"{MARK}-secret-in-the-wrong-field-42cd"
KILLED_KEY = f"{MARK}-api-key-of-a-kill-switch-b9a1"
SUBJECT = "the-subject"

JWT = token(
    {"alg": "HS256"},
    {"n": f"{MARK}-claim-of-a-good-token", "sub": SUBJECT},
    lambda text: hs(text, HS256_SECRET.encode()),
).decode()
FORGED = token({"alg": "HS256"}, {"x": f"{MARK}-forged", "sub": SUBJECT}).decode()

ALL = {
    name: value
    for name, value in globals().items()
    if name.isupper()
    and isinstance(value, str)
    and name not in {"MARK", "SUBJECT", "JWT", "FORGED"}
}
for _name, _token in (("JWT", JWT), ("FORGED", FORGED)):
    _head, _payload, _signature = _token.split(".")
    ALL |= {f"{_name}_PAYLOAD": _payload, f"{_name}_SIGNATURE": _signature}
assert len(ALL) >= 19


def spellings(value: str) -> set[bytes]:
    """Return how a value may be written."""
    raw = value.encode()
    found = {raw, quote(value, safe="").encode(), raw.hex().encode(), repr(value).encode()[1:-1]}
    for shift in range(3):  # inside a longer text, base64 falls in one of three ways
        text = b64(bytes(shift) + raw)
        found.add(text[4 if shift else 0 : -4])
    return found


def seen_in(text: bytes, allowed: Iterable[str] = ()) -> list[str]:
    """Return the names of canaries that stand in a text, those aside that may."""
    return [
        name
        for name, value in ALL.items()
        if name not in set(allowed) and any(each in text for each in spellings(value))
    ]
