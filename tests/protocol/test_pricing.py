import math
from fractions import Fraction

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from protocol.pricing import Rates, TokenPrices, cost, estimate_cost
from protocol.usage import Usage

prices = st.fractions(0, 1000, max_denominator=10**9)
tokens = st.integers(0, 10**7)
CLAUDE = TokenPrices(
    input=Fraction(3),
    output=Fraction(15),
    cache_read=Fraction("0.3"),
    cache_read_audio=Fraction("0.3"),
    cache_write=Fraction("3.75"),
    cache_write_1h=Fraction(6),
    input_audio=Fraction(3),
    output_reasoning=Fraction(15),
    output_audio=Fraction(15),
    output_image=Fraction(15),
)
MANY = TokenPrices(*(Fraction(10**place) for place in range(10)))


@given(prices, prices, tokens, tokens)
def test_is_exact_and_rounded_up_once(p: Fraction, q: Fraction, inside: int, out: int) -> None:
    rates = Rates.of((-1, TokenPrices.flat(p, q)))
    exact = math.ceil(p * inside + q * out)
    assert estimate_cost(rates, inside, out) == exact
    assert cost(rates, Usage(inside, out, inside + out)) == exact


@given(prices, tokens, st.lists(tokens, min_size=8, max_size=8))
def test_no_token_is_priced_twice_or_forgotten(p: Fraction, side: int, parts: list[int]) -> None:
    rates = Rates.of((-1, TokenPrices.flat(p, p)))
    usage = Usage(side, side, 2 * side, *parts)
    assert cost(rates, usage) == math.ceil(2 * side * p)


@given(st.lists(tokens, min_size=8, max_size=8), tokens, tokens)
def test_parts_never_exceed_their_side(parts: list[int], inside: int, out: int) -> None:
    found = cost(Rates.of((-1, MANY)), Usage(inside, out, inside + out, *parts))
    assert found is not None
    assert inside + 10 * out <= found <= 10**6 * inside + 10**9 * out


def test_cached_tokens_have_their_own_price() -> None:
    rates = Rates.of((-1, CLAUDE))
    usage = Usage(2100, 10, 2110, cached_input=1800, cache_write=250, cache_write_1h=50)
    # 50 plain, 1800 read, 200 written for 5 minutes, 50 for an hour, 10 out
    assert cost(rates, usage) == 150 + 540 + 750 + 300 + 150


def test_every_class_takes_its_own_rate() -> None:
    usage = Usage(
        1 + 2 + 3 + 4 + 5 + 6,
        1 + 2 + 3 + 4,
        cached_input=2 + 3,
        cached_audio=3,
        cache_write=4 + 5,
        cache_write_1h=5,
        audio_input=3 + 6,
        reasoning=2,
        audio_output=3,
        image_output=4,
    )
    # the n-th class of TokenPrices costs 10^(n-1): plain 1, output 1, read 2, read audio 3, …
    assert cost(Rates.of((-1, MANY)), usage) == 4_326_543_211


def test_big_prompts_cost_more_as_a_whole() -> None:
    rates = Rates.of(
        (-1, TokenPrices.flat(Fraction(1), Fraction(2))),
        (200_000, TokenPrices.flat(Fraction(10), Fraction(20))),
    )
    assert estimate_cost(rates, 200_000, 1) == 200_002
    assert estimate_cost(rates, 200_001, 1) == 2_000_030


def test_a_mere_total_has_no_price() -> None:
    assert cost(Rates.of((-1, MANY)), Usage(total=7)) is None


@given(st.lists(st.fractions(0, 10**6), min_size=20, max_size=20))
def test_survives_the_wire_at_any_size(values: list[Fraction]) -> None:
    rates = Rates.of((-1, TokenPrices(*values[:10])), (128_000, TokenPrices(*values[10:])))
    assert Rates.from_wire(msgpack.unpackb(msgpack.packb(rates.to_wire()))) == rates
