"""What of a request may be shown to an operator (behaviour §9.3, §19).

Rules
- A descriptor that is named like a credential, or whose value looks like one, is shown as a keyed
  digest: equal credentials can be told to be equal, and nothing more.
- Everything shown is bounded in length; the path is shown, the query and the body never are.
"""

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from daemon.engine.evaluation import Evaluation

MAX_VALUE_CHARS: Final = 256
MAX_PATH_CHARS: Final = 2048
HASHED: Final = "hashed:"

_DIGEST_BYTES: Final = 8
_SECRET_NAME: Final = re.compile(
    r"auth|cookie|token|secret|passw|credential|signature|session|jwt|(^|[-_])key$|api[-_]?key"
)
_SECRET_VALUE: Final = re.compile(
    r"\s*([Bb]earer|[Bb]asic)\s|eyJ[\w-]*\.|(sk|pk|rk|gh[a-z]|xox[a-z])[-_]|AIza|AKIA"
)


@lru_cache(maxsize=1024)
def names_secret(key: str) -> bool:
    """Say whether a descriptor key's name suggests a credential.

    >>> names_secret("header:x-api-key"), names_secret("header:x-user")
    (True, False)
    """
    kind, _, name = key.partition(":")
    return kind in {"header", "query", "jwt"} and _SECRET_NAME.search(name.lower()) is not None


def shown(key: str, value: str, secret: bytes, most: int = MAX_VALUE_CHARS) -> str:
    """Return a descriptor's value as an operator may see it: cut, or hashed with `secret`.

    `most` in characters.
    """
    kind = key.partition(":")[0]
    sent = kind in {"header", "query", "jwt"}
    if sent and (names_secret(key) or _SECRET_VALUE.match(value)):
        digest = blake2b(value.encode(errors="replace"), digest_size=_DIGEST_BYTES, key=secret)
        return HASHED + digest.hexdigest()
    return value[:most]


def descriptors(evaluation: Evaluation) -> dict[str, str]:
    """Return the descriptors that the request's rules counted by, as they may be shown."""
    context = evaluation.context
    secret = context.sources.jitter_key
    found: dict[str, str] = {}
    for check in evaluation.checks:
        if check.rule is None:
            continue
        for key, extract in zip(check.rule.limit_keys, check.extract, strict=True):
            if key not in found:
                value = extract(context)
                if value is not None:
                    found[key] = shown(key, value, secret)
    return found
