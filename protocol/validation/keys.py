"""Descriptor keys in a bundle, with advice when they are not (§4.3)."""

from protocol.descriptors import FIXED_NAMES, NAMED_KINDS, parse_key, valid_name
from protocol.validation.wording import guess, listing, show

_FIXED = tuple(f"{kind}:{name}" for kind, names in FIXED_NAMES.items() for name in names)
_WORDS = listing([*(f"{kind}:<name>" for kind in NAMED_KINDS), *_FIXED])


def canonical_key(value: object) -> str | None:
    """Return the canonical text of a descriptor key, or None if it is none."""
    descriptor = parse_key(value)
    return descriptor.text if descriptor else None


def key_fault(label: str, value: object) -> str:
    """Return the message for a value that should have been a descriptor key."""
    wrong = f"{label} must be a descriptor key; got {show(value)}{_advice(value)}"
    return f"{wrong} (keys: {_WORDS}; a name has letters, digits, `_` and `-`)"


def _advice(value: object) -> str:
    if not isinstance(value, str):
        return ""
    kind, colon, name = value.partition(":")
    if not colon:
        return _advice_without_kind(value)
    if kind not in NAMED_KINDS:
        return guess(value, _FIXED) or guess(kind, NAMED_KINDS)
    if kind == "jwt" and "." in name:
        return ": nested claims cannot be addressed"
    return f": {show(name)} is not a name" if name else ": the name is missing"


def _advice_without_kind(value: str) -> str:
    likely = [key for key in _FIXED if value in key.split(":")]
    if not likely and valid_name(value):
        likely = [f"{kind}:{value[:40]}" for kind in NAMED_KINDS]
    return f"; did you mean {listing(likely)}?" if likely else ""
