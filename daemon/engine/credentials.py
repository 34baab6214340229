"""The wrapper's credential: who the client is and the key it brings for the provider (§10.5)."""

from dataclasses import dataclass, field

from daemon.engine.claims import BEARER


@dataclass(frozen=True, slots=True)
class Credential:
    """What an `Authorization` value holds in wrapper mode.

    `authorization` is the value to read claims from, None when there are none to read;
    `upstream_key` goes into the provider's key header and nowhere else.
    """

    authorization: bytes | None = field(repr=False)
    upstream_key: bytes = field(repr=False)


def composite_credential(authorization: bytes | None) -> Credential | None:
    """Split `Bearer CLIENT_JWT:UPSTREAM_KEY` at the first colon; None when a part is missing.

    >>> composite_credential(b"Bearer a.b.c:sk:1").upstream_key
    b'sk:1'
    """
    if authorization is None or not authorization.startswith(BEARER):
        return None
    token, _, upstream_key = authorization[len(BEARER) :].partition(b":")
    if not token.strip() or not upstream_key.strip():
        return None
    return Credential(BEARER + token, upstream_key)


def passthrough_credential(authorization: bytes | None) -> Credential | None:
    """Take the whole bearer credential as the provider's key (`FAIRVISOR_WRAPPER_AUTH`)."""
    if authorization is None or not authorization.startswith(BEARER):
        return None
    upstream_key = authorization[len(BEARER) :]
    return Credential(None, upstream_key) if upstream_key.strip() else None
