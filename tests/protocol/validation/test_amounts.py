import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.validation.amounts import (
    PERCENT,
    POSITIVE,
    POSITIVE_RATE,
    SPAN,
    exact,
    to_micro,
    to_rate,
)


@pytest.mark.parametrize("value", [True, False, None, "1", [], {}, math.nan, math.inf, -math.inf])
def test_only_finite_numbers_are_numbers(value: object) -> None:
    assert exact(value) is None
    assert POSITIVE.fault(value) is not None


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_numbers_are_taken_as_they_are_written(value: float) -> None:
    assert exact(value) == Fraction(Decimal(repr(value)))


def test_ten_tenths_are_one() -> None:
    tenth = exact(0.1)
    assert tenth is not None
    assert 10 * to_micro(tenth) == to_micro(Fraction(1))


@pytest.mark.parametrize(
    ("amount", "micro"),
    [
        (0, 0),
        (1, 1_000_000),
        (0.000001, 1),
        (0.0000015, 2),
        (0.0000025, 2),
        (0.0000004, 1),
        (5e-324, 1),
        (2.5000005, 2_500_000),
        (2.5000015, 2_500_002),
    ],
)
def test_micro_units_round_half_to_even_but_not_to_nothing(amount: float, micro: int) -> None:
    assert to_micro(exact(amount) or Fraction(0)) == micro


@given(st.floats(1e-9, 1e12))
def test_a_rate_fits_in_64_bits_and_is_near(value: float) -> None:
    rate = to_rate(exact(value) or Fraction(0))
    assert max(rate.numerator, rate.denominator) < 2**63
    assert math.isclose(rate, value, rel_tol=1e-9)


@pytest.mark.parametrize("text", ["0.1", "33.333333333333336", "0.000001", "1000000"])
def test_ordinary_rates_stay_exact(text: str) -> None:
    assert to_rate(exact(float(text)) or Fraction(0)) == Fraction(text)


def test_bounds() -> None:
    assert POSITIVE.fault(0) is not None
    assert POSITIVE.fault(5e-324) is None
    assert POSITIVE.fault(10**12) is None
    assert "absurdly" in (POSITIVE.fault(10**12 + 1) or "")
    assert PERCENT.fault(101) == ""
    assert PERCENT.fault(0) is PERCENT.fault(100.0) is None
    assert POSITIVE_RATE.fault(1e-10) is not None
    assert SPAN.fault(60.0) is None
    assert "fraction" in (SPAN.fault(60.5) or "")
    assert "quotes" in (SPAN.fault("60") or "")
