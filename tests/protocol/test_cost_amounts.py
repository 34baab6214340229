from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.amounts import MAX_COST, as_number, positive_micro

M = 1_000_000


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("1", M),
        ("2.5", 2_500_000),
        (".5", 500_000),
        ("5.", 5 * M),
        ("+3", 3 * M),
        (" 7\t", 7 * M),
        ("1e3", 1000 * M),
        ("1E-3", 1000),
        ("0.0000001", 1),  # positive is never nothing
        ("0.0000005", 1),
        ("0.0000015", 2),  # half to even
        ("0.0000025", 2),
        ("1e999", MAX_COST),
        ("9" * 64, MAX_COST),
        ("1e-999", 1),
    ],
)
def test_numbers(text: str, micro: int) -> None:
    assert positive_micro(text) == micro


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " ",
        "0",
        "0.0",
        "0e9",
        "-1",
        "--1",
        "1,5",
        "1_000",
        "0x10",
        "nan",
        "inf",
        "1e",
        "e1",
        ".",
        "1 2",
        "\u0661",
        "1e1000",
        "9" * 65,
        "1\n2",
        "\x00",
    ],
)
def test_everything_else_is_none(text: str | None) -> None:
    assert positive_micro(text) is None


@given(st.text(max_size=70))
def test_any_text(text: str) -> None:
    found = positive_micro(text)
    assert found is None or 1 <= found <= MAX_COST


@given(st.decimals(min_value=Decimal("0.000001"), max_value=10**9, places=6))
def test_six_decimals_are_exact(number: Decimal) -> None:
    assert Fraction(positive_micro(str(number)) or 0, M) == Fraction(number)


@pytest.mark.parametrize(("micro", "number"), [(0, 0), (5 * M, 5), (1, 1e-6), (2_500_000, 2.5)])
def test_as_number(micro: int, number: float) -> None:
    assert as_number(micro) == number
    assert isinstance(as_number(micro), int) == (micro % M == 0)
