from datetime import UTC, datetime
from fractions import Fraction

from daemon.llm.builtin_prices import flatten
from daemon.llm.prices import PriceTable
from protocol.bundle import MICRO, ModelPrice
from protocol.pricing import Rates, estimate_cost


def dollars(price_in: str, price_out: str) -> ModelPrice:
    return ModelPrice(Fraction(price_in) * MICRO, Fraction(price_out) * MICRO)


def cost(rates: Rates | None, prompt: int, completion: int) -> int | None:
    return None if rates is None else estimate_cost(rates, prompt, completion)


TABLE = PriceTable(
    [
        ("gpt-*", dollars("1", "2")),
        ("gpt-4o", dollars("2.5", "10")),
        ("gpt-4o-*", dollars("0.15", "0.6")),
        ("gpt-4*", dollars("30", "60")),
    ],
    flatten(datetime(2026, 6, 1, tzinfo=UTC)),
)


def test_exact_wins_then_the_longest_prefix() -> None:
    assert cost(TABLE.rates("gpt-4o"), 10, 10) == 125
    assert cost(TABLE.rates("gpt-4o-mini"), 10, 10) == 8
    assert cost(TABLE.rates("gpt-4-turbo"), 10, 10) == 900
    assert cost(TABLE.rates("gpt-3"), 10, 10) == 30


def test_the_bundle_wins_over_the_built_in_table() -> None:
    assert PriceTable(builtin=None).rates("gpt-4o") is None
    assert cost(TABLE.rates("claude-3-5-haiku-latest", "anthropic"), 10, 10) == 48


def test_unknown_models() -> None:
    assert TABLE.rates(None) is None
    assert TABLE.rates("") is None
    assert TABLE.rates("no-such-model") is None
    assert TABLE.rates("x" * 10_000) is None
    assert cost(TABLE.rates("gpt-" + "x" * 10_000), 1, 1) == 3


def test_memory_is_bounded() -> None:
    table = PriceTable([("*", dollars("1", "1"))])
    for number in range(5000):
        assert table.rates(f"m{number}") is not None
    assert len(table._remembered) <= 1024
