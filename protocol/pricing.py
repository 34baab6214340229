"""What tokens cost: one exact sum, rounded up once (behaviour §5.5.3, §11.1).

A `Rates` value is plain integers, so that a front can hand it to the shard that settles. A rate
is `number / scale` micro-dollars per token, which is the same figure as US dollars per million
tokens. A table may price big prompts higher: the last tier whose `above` the prompt exceeds holds
for *all* tokens of the request, as vendors bill.

A token is priced once, by the most special rate that fits it:

| side       | order in which tokens are claimed                                          |
|------------|----------------------------------------------------------------------------|
| prompt     | cache write (1 h, other), cache read (audio, other), audio, then the rest   |
| completion | reasoning, audio, image, then the rest                                     |

Parts that claim more than their side holds (a broken upstream) are cut to what is left of it.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any, NamedTuple, Self

from protocol.usage import Usage

_WIRE_MAX = 2**63


class TokenPrices(NamedTuple):
    """The price of one token by class: exact micro-dollars, i.e. dollars per million tokens."""

    input: Fraction
    output: Fraction
    cache_read: Fraction
    cache_read_audio: Fraction
    cache_write: Fraction
    cache_write_1h: Fraction
    input_audio: Fraction
    output_reasoning: Fraction
    output_audio: Fraction
    output_image: Fraction

    @classmethod
    def flat(cls, price_in: Fraction, price_out: Fraction) -> Self:
        """Price every input token alike and every output token alike."""
        return cls(
            input=price_in,
            output=price_out,
            cache_read=price_in,
            cache_read_audio=price_in,
            cache_write=price_in,
            cache_write_1h=price_in,
            input_audio=price_in,
            output_reasoning=price_out,
            output_audio=price_out,
            output_image=price_out,
        )


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices of one model. `tiers`: (above, one number per field of `TokenPrices`), ascending."""

    scale: int
    tiers: tuple[tuple[int, tuple[int, ...]], ...]

    @classmethod
    def of(cls, *tiers: tuple[int, TokenPrices]) -> Self:
        """Put exact prices on one common scale; the first tier must hold for all, i.e. above -1."""
        scale = lcm(*(price.denominator for _, prices in tiers for price in prices))
        return cls(
            scale,
            tuple(
                (above, tuple(int(price * scale) for price in prices)) for above, prices in tiers
            ),
        )

    def to_wire(self) -> list[Any]:
        """Return the rates as a msgpack-able list; integers beyond 64 bits become hex text."""
        return [
            _pack(self.scale),
            [[above, [_pack(number) for number in numbers]] for above, numbers in self.tiers],
        ]

    @classmethod
    def from_wire(cls, wire: list[Any]) -> Self:
        """Build the rates that `to_wire` gave."""
        scale, tiers = wire
        return cls(
            _unpack(scale),
            tuple(
                (above, tuple(_unpack(number) for number in numbers)) for above, numbers in tiers
            ),
        )


def cost(rates: Rates, usage: Usage) -> int | None:
    """Return the price of `usage` in whole micro-dollars, rounded up once.

    None when the usage knows only a total: input and output have different prices.
    """
    if usage.prompt is None or usage.completion is None:
        return None
    numbers = _tier(rates, usage.prompt)
    exact = sum(
        count * number for count, number in zip(_classes(usage), numbers, strict=True) if count
    )
    return -(-exact // rates.scale)


def estimate_cost(rates: Rates, prompt: int, completion: int) -> int:
    """Return the price of a request before it is sent: no caches, plain text; micro-dollars."""
    numbers = _tier(rates, prompt)
    return -(-(prompt * numbers[0] + completion * numbers[1]) // rates.scale)


def _tier(rates: Rates, prompt: int) -> tuple[int, ...]:
    chosen = rates.tiers[0][1]
    for above, numbers in rates.tiers[1:]:
        if prompt > above:
            chosen = numbers
    return chosen


def _classes(usage: Usage) -> tuple[int, ...]:
    """Split a usage into disjoint counts, in the order of `TokenPrices`."""
    left = usage.prompt or 0
    left -= (write := min(usage.cache_write, left))
    write_1h = min(usage.cache_write_1h, write)
    left -= (read := min(usage.cached_input, left))
    read_audio = min(usage.cached_audio, usage.audio_input, read)
    left -= (audio := min(usage.audio_input - read_audio, left))
    out = usage.completion or 0
    out -= (reasoning := min(usage.reasoning, out))
    out -= (audio_out := min(usage.audio_output, out))
    out -= (image_out := min(usage.image_output, out))
    return (
        left,
        out,
        read - read_audio,
        read_audio,
        write - write_1h,
        write_1h,
        audio,
        reasoning,
        audio_out,
        image_out,
    )


def _pack(number: int) -> int | str:
    return number if number < _WIRE_MAX else f"{number:x}"


def _unpack(number: int | str) -> int:
    return number if isinstance(number, int) else int(number, 16)
