"""Descriptor keys: the names of who, what and from where (§4.3)."""

import math
import re
from dataclasses import dataclass
from typing import Literal

DescriptorKind = Literal["jwt", "header", "query", "ip", "ua", "llm"]

NAMED_KINDS: tuple[DescriptorKind, ...] = ("jwt", "header", "query")
"""Kinds that take any name; the others have a fixed list."""

FIXED_NAMES: dict[DescriptorKind, tuple[str, ...]] = {
    "ip": ("address", "country", "asn", "type", "tor"),
    "ua": ("bot", "bot_category"),
    "llm": ("model", "provider", "endpoint"),
}

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_WHOLE_FLOATS_BELOW = 2**53


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One parsed key. A header's `name` is canonical: lower case, "_" as "-"."""

    kind: DescriptorKind
    name: str

    @property
    def text(self) -> str:
        """The key as a bundle writes it, in its canonical spelling."""
        return f"{self.kind}:{self.name}"


def canonical_header(name: str) -> str:
    """Return a header name as it is compared: case and "_" do not matter (§4.1)."""
    return name.lower().replace("_", "-")


def valid_name(name: str) -> bool:
    """Tell whether `name` may stand behind `jwt:`, `header:` or `query:`."""
    return _NAME.fullmatch(name) is not None


def parse_key(text: object) -> Descriptor | None:
    """Return the descriptor that `text` names, or None if it names none."""
    if not isinstance(text, str):
        return None
    kind, colon, name = text.partition(":")
    if not colon:
        return None
    for known in NAMED_KINDS:
        if kind == known:
            if not valid_name(name):
                return None
            return Descriptor(known, canonical_header(name) if known == "header" else name)
    for fixed, names in FIXED_NAMES.items():
        if kind == fixed:
            return Descriptor(fixed, name) if name in names else None
    return None


def value_text(value: object) -> str | None:
    """Return a JSON scalar as descriptor text (§4.1), or None if it has none.

    Booleans become `true`/`false`; a float without a fraction reads like the integer (`42.0` is
    `42`), because writers of JSON do not agree on the difference. Null, arrays, objects, NaN,
    infinities and integers beyond 64 bits have no text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if -(2**63) <= value < 2**64 else None
    if isinstance(value, float) and math.isfinite(value):
        whole = value.is_integer() and abs(value) < _WHOLE_FLOATS_BELOW
        return str(int(value)) if whole else repr(value)
    return None
