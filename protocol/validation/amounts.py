"""JSON numbers as exact values.

A float is taken as the decimal that its shortest spelling shows (`Decimal(repr(x))`), which is
what the bundle's author wrote: 0.1 is exactly one tenth.
"""

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from protocol.bundle import MICRO

LARGEST_AMOUNT = 10**12
"""In micro-units this is 10^18: amounts and sums of a few of them stay within 64 bits."""

LARGEST_SPAN = 10**9
"""For seconds, minutes and counts: more than thirty years, or more than can be meant."""

LARGEST_VERSION = 2**63 - 1

SMALLEST_RATE = Fraction(1, 10**9)
"""A token in thirty years. With 17 significant digits a rate then fits in two 64-bit integers."""

_RATE_STEPS = 10**18


@dataclass(frozen=True, slots=True)
class Range:
    """Which numbers a field takes. `words` completes "must be …"; bounds are inclusive.

    `absurd_above`: the upper bound is not the field's own, but that of what can be meant.
    """

    words: str
    low: Fraction
    high: Fraction
    above_low: bool = False
    whole: bool = False
    absurd_above: bool = True

    def fault(self, value: object) -> str | None:
        """Return None if `value` is in range, else a remark (perhaps empty) on what is wrong."""
        number = exact(value)
        if number is None:
            return _remark_on_type(value)
        if number > self.high:
            return f", which is absurdly large: at most {self.high}" if self.absurd_above else ""
        if number < self.low or (self.above_low and number == self.low):
            return ""
        if self.whole and number.denominator != 1:
            return ", which has a fraction"
        return None


POSITIVE = Range("a positive number", Fraction(0), Fraction(LARGEST_AMOUNT), above_low=True)
NON_NEGATIVE = Range("a non-negative number", Fraction(0), Fraction(LARGEST_AMOUNT))
POSITIVE_RATE = Range(
    "a positive number (at least 0.000000001)", SMALLEST_RATE, Fraction(LARGEST_AMOUNT)
)
PERCENT = Range("a number between 0 and 100", Fraction(0), Fraction(100), absurd_above=False)
SPAN = Range("a positive integer", Fraction(1), Fraction(LARGEST_SPAN), whole=True)
NON_NEGATIVE_SPAN = Range("a non-negative number", Fraction(0), Fraction(LARGEST_SPAN))
REPETITIONS = Range("an integer of at least 2", Fraction(2), Fraction(LARGEST_SPAN), whole=True)
VERSION = Range("a positive integer", Fraction(1), Fraction(LARGEST_VERSION), whole=True)


def exact(value: object) -> Fraction | None:
    """Return a JSON number exactly; None for anything else, booleans, NaN and infinities."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Fraction(value)
    if isinstance(value, float) and math.isfinite(value):
        return Fraction(Decimal(repr(value)))
    return None


def to_micro(amount: Fraction) -> int:
    """Return an amount in micro-units, rounded half to even; never 0 for a positive one."""
    rounded = round(amount * MICRO)
    return 1 if rounded == 0 and amount > 0 else rounded


def to_rate(rate: Fraction) -> Fraction:
    """Return a rate in steps of 10^-18, so that numerator and denominator fit in 64 bits."""
    return Fraction(round(rate * _RATE_STEPS), _RATE_STEPS)


def _remark_on_type(value: object) -> str:
    if isinstance(value, bool):
        return ", a boolean"
    if isinstance(value, str):
        return ", a string: write the number without quotes"
    return ""
