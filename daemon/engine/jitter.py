"""Retry-After with a deterministic spread (behaviour §8.3), in exact integer arithmetic.

A keyed hash h of 64 bits gives the ratio h / 2^64. With base b:

    budget_exhausted   ceil(b - ratio * b/2) = b - floor(h*b / 2^65)   in [ceil(b/2), b]
    anything else      ceil(b + ratio * b/2) = b + ceil(h*b / 2^65)    in [b, ceil(1.5 b)]

The same identity refused for the same reason always hears the same figure, so retrying sooner
teaches it nothing; different identities come back at different times.
"""

from bisect import bisect_left
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from daemon.engine.claims import claim_text

_RATIO_BYTES: Final = 8
_HALF_RATIO_BITS: Final = 65
_SUBJECT_CLAIMS: Final = ("sub", "user_id", "uid")

_EDGES: Final = (1, 5, 10, 30, 60, 300, 900, 3600)
BUCKETS: Final = (*(f"le_{edge}" for edge in _EDGES), f"gt_{_EDGES[-1]}")
"""All labels of `retry_after_bucket_total`."""


def jitter_identity(claims: Mapping[str, object] | None, address: str | None, path: str) -> str:
    """Return who is to wait: the token's subject, else the client's address, else the path."""
    for name in _SUBJECT_CLAIMS:
        subject = claim_text(claims.get(name)) if claims else None
        if subject is not None:
            return f"subject {subject}"
    return f"path {path}" if address is None else f"address {address}"


def retry_after(  # noqa: PLR0913 - §8.3 names these six, and each is a plain text or number
    base: int, reason: str, policy_id: str, rule_name: str, identity: str, key: bytes
) -> int:
    """Return the seconds to wait, at least 1.

    `base` is in whole seconds; `key` (at most 64 bytes) is one for all processes of a daemon, or
    they would answer the same client differently.
    """
    parts = [part.encode() for part in (policy_id, rule_name, reason, str(base), identity)]
    # Lengths first: no two lists of parts give the same text.
    text = b",".join([b"%d" % len(part) for part in parts]) + b":" + b"".join(parts)
    ratio = int.from_bytes(blake2b(text, digest_size=_RATIO_BYTES, key=key).digest(), "big")
    if reason == "budget_exhausted":
        return max(1, base - (ratio * base >> _HALF_RATIO_BITS))
    return max(1, base - (-ratio * base >> _HALF_RATIO_BITS))


def bucket_label(seconds: int) -> str:
    """Return the label under which `retry_after_bucket_total` counts a final Retry-After."""
    return BUCKETS[bisect_left(_EDGES, seconds)]
