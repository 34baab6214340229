"""The header fields that a debug session adds to an answer (behaviour §9.3)."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from protocol.decision import Decision

MAX_DESCRIPTORS: Final = 16
MAX_VALUE_BYTES: Final = 256

_PRINTABLE: Final = "".join(map(chr, range(0x20, 0x7F)))
_HALF_ESCAPE: Final = re.compile(r"%[0-9A-F]?$")


def debug_fields(
    decision: Decision, latency_us: int, descriptors: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Return the fields; `descriptors` as they may be shown, credentials hashed already.

    What is not printable ASCII is percent-encoded, so no value can end its line.
    """
    prefix = "X-Fairvisor-"
    basics = [
        ("Decision", decision.action),
        ("Mode", decision.mode),
        ("Latency-Us", str(latency_us)),
    ]
    details = [
        *basics[:2],
        ("Reason", decision.reason),
        ("Policy", decision.policy_id),
        ("Rule", decision.rule_name),
        basics[2],
        ("Matched-Policies", ",".join(decision.matched)),
    ]
    fields = [(prefix + name, value) for name, value in basics]
    fields += [(f"{prefix}Debug-{name}", field_value(value)) for name, value in details if value]
    for number, key in enumerate(sorted(descriptors)[:MAX_DESCRIPTORS], start=1):
        fields.append((f"{prefix}Debug-Descriptor-{number}-Key", field_value(key)))
        fields.append((f"{prefix}Debug-Descriptor-{number}-Value", field_value(descriptors[key])))
    return fields


def field_value(text: str) -> str:
    r"""Return `text` as a field value of at most 256 bytes.

    >>> field_value("a\r\nSet-Cookie: b")
    'a%0D%0ASet-Cookie: b'
    """
    encoded = quote(text, safe=_PRINTABLE, errors="replace")
    if len(encoded) <= MAX_VALUE_BYTES:
        return encoded.strip()
    return _HALF_ESCAPE.sub("", encoded[:MAX_VALUE_BYTES]).strip()
