"""Exact amounts from untrusted text (behaviour §5.5.1)."""

import re
from decimal import Decimal

from protocol.bundle import MICRO

MAX_COST = 2**62
"""Micro-units; a larger cost is charged as this much, which no limit can hold."""

_NUMBER = re.compile(r"\s*\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\s*", re.ASCII)
_MAX_CHARS = 64


def positive_micro(text: str | None) -> int | None:
    """Return a positive decimal number as micro-units, or None if `text` is not one.

    Signs other than "+", hexadecimal, underscores, infinities and NaN are not numbers. Digits past
    the sixth decimal are rounded half to even, but never down to nothing.
    """
    if text is None or len(text) > _MAX_CHARS or not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text.strip())
    if number <= 0:
        return None
    if number * MICRO >= MAX_COST:
        return MAX_COST
    return max(1, int((number * MICRO).to_integral_value()))


def as_number(micro: int) -> float:
    """Return micro-units as a number of units: an integer where it is whole."""
    whole, part = divmod(micro, MICRO)
    return whole if part == 0 else micro / MICRO
