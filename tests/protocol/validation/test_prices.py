import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from protocol.bundle import ModelPrice

Faults = Callable[[str, object], dict[str, str]]

TINY = "model_prices.tiny"


@pytest.mark.parametrize("field", ["input_per_million", "output_per_million"])
@pytest.mark.parametrize(
    "value",
    [
        *(..., None, True, -1, -0.001, math.nan, math.inf, 1e300, 10**40, [], {}),
        *(
            "",
            "free",
            "-1",
            "-0.5",
            "-0",
            "1,5",
            "1e3",
            "1_000",
            "0x1",
            ".5",
            "5.",
            "٣",
            " 1",
            "9" * 21,
        ),
    ],
)
def test_prices_are_non_negative(field: str, value: object, faults: Faults) -> None:
    found = faults(f"{TINY}.{field}", value)
    assert list(found) == [f"{TINY}.{field}"]
    assert "non-negative" in found[f"{TINY}.{field}"]


@pytest.mark.parametrize("value", [None, 1, "x", []])
def test_the_table_and_its_entries_are_objects(value: object, faults: Faults) -> None:
    assert "object" in faults("model_prices", value)["model_prices"]
    assert "object" in faults(TINY, value)[TINY]


def test_a_price_of_nothing_is_fine(faults: Faults) -> None:
    assert faults(f"{TINY}.input_per_million", "0.00") == {}
    assert faults(f"{TINY}.input_per_million", 0.0) == {}


def test_values_are_exact(full: dict[str, Any], report: Callable[..., Any]) -> None:
    assert report(full).bundle.model_prices == (
        ("gpt-4.1*", ModelPrice(Fraction(2_500_000), Fraction(10_000_000))),
        ("tiny", ModelPrice(Fraction(0), Fraction(100_000))),
    )


def test_a_star_inside_a_name_is_pointed_out(warned: Callable[..., dict[str, str]]) -> None:
    prices = {"input_per_million": 1, "output_per_million": 1}
    assert "`*`" in warned("model_prices", {"gpt-*-mini": prices})["model_prices.gpt-*-mini"]
    assert warned("model_prices", {"*": prices, "gpt-4*": prices}) == {}
