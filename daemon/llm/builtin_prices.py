"""The built-in price table: the data of `genai-prices`, flattened once (behaviour §5.5.3).

The package answers one question in some 200 µs and with decimals; we ask it nothing, but turn its
data into integer rates at start. It is dated by its version, works offline, and is not updated
behind the operator's back.

Choices where the data says more than a request does:
- Prices that begin on a date count from that date, judged when the table is flattened.
- Prices that vary with the hour of the day count at their dearest: a budget must not be overdrawn.
- Variants for batch, priority or flex processing are left out; the bundle can name other prices.
- Models without a price per token (by the second, the page, the request) are unknown.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from genai_prices import types
from genai_prices.data import providers

from protocol.pricing import Rates, TokenPrices

_ZERO = Fraction(0)

_DATA_PROVIDERS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "google",
    "gemini-compat": "google",
    "grok": "x-ai",
    "groq": "groq",
    "mistral": "mistral",
    "deepseek": "deepseek",
    "perplexity": "perplexity",
    "together": "together",
    "fireworks": "fireworks",
    "cerebras": "cerebras",
}

Clause = tuple[Callable[..., object], "str | tuple[Clause, ...]"]
"""One matching rule: a test and the text or the rules that it takes."""


@dataclass(frozen=True, slots=True)
class ProviderPrices:
    """The models of one provider, in the order of trial, and which names are its own."""

    own: Clause | None
    models: tuple[tuple[Clause, Rates], ...]


@dataclass(frozen=True, slots=True)
class BuiltinPrices:
    """The flattened table, by the provider names of the data."""

    by_provider: dict[str, ProviderPrices]

    def find(self, model: str, provider: str | None = None) -> Rates | None:
        """Return the rates of a model; None if it is unknown.

        A known provider's own list comes first; then those of the vendors that the name belongs to,
        since an OpenAI-format endpoint may serve anybody's models. A local model server is free of
        charge and has no prices.
        """
        if provider == "ollama":
            return None
        name = model.lower().removeprefix("models/")
        asked = self.by_provider.get(_DATA_PROVIDERS.get(provider or "", ""))
        owners = [
            prices for prices in self.by_provider.values() if prices.own and _is(prices.own, name)
        ]
        for prices in (asked, *owners):
            for clause, rates in prices.models if prices else ():
                if _is(clause, name):
                    return rates
        return None


def flatten(at: datetime) -> BuiltinPrices:
    """Flatten the package's data as of the moment `at`."""
    wanted = set(_DATA_PROVIDERS.values())
    return BuiltinPrices(
        {
            provider.id: ProviderPrices(
                _clause(provider.model_match) if provider.model_match else None,
                tuple(_models(provider.models, at)),
            )
            for provider in providers
            if provider.id in wanted or provider.model_match
        }
    )


def _models(models: Iterable[types.ModelInfo], at: datetime) -> Iterable[tuple[Clause, Rates]]:
    for model in models:
        rates = _rates(_current(model, at))
        if rates is not None:
            yield _clause(model.match), rates


def _current(model: types.ModelInfo, at: datetime) -> types.ModelPrice:
    """Return the prices in force; the last entry that holds wins, of hourly ones the dearest."""
    if isinstance(model.prices, types.ModelPrice):
        return model.prices
    hourly: list[types.ModelPrice] = []
    for entry in reversed(model.prices):
        if isinstance(entry.constraint, types.TimeOfDateConstraint):
            hourly.append(entry.prices)
        elif entry.constraint is None or entry.constraint.active(at):
            return max((entry.prices, *hourly), key=_dearness)
    return max((model.prices[0].prices, *hourly), key=_dearness)


def _dearness(prices: types.ModelPrice) -> Fraction:
    return (_at(prices, "input_mtok", -1) or _ZERO) + (_at(prices, "output_mtok", -1) or _ZERO)


def _rates(prices: types.ModelPrice) -> Rates | None:
    values = [value for value in vars(prices).values() if isinstance(value, types.TieredPrices)]
    starts = sorted({tier.start for value in values for tier in value.tiers})
    if _at(prices, "input_mtok", -1) is None:
        return None
    return Rates.of(*((start, _token_prices(prices, start)) for start in (-1, *starts)))


def _token_prices(prices: types.ModelPrice, start: int) -> TokenPrices:
    """Return the price of every class of tokens; one without a price costs what its kind costs."""

    def first(default: Fraction, *names: str) -> Fraction:
        found = (_at(prices, name, start) for name in names)
        return next((price for price in found if price is not None), default)

    plain = first(_ZERO, "input_mtok")
    output = first(_ZERO, "output_mtok")
    audio = first(plain, "input_audio_mtok")
    cache_write = first(plain, "cache_write_mtok", "cache_write_5m_mtok")
    return TokenPrices(
        input=plain,
        output=output,
        cache_read=first(plain, "cache_read_mtok"),
        cache_read_audio=first(audio, "cache_audio_read_mtok", "cache_read_mtok"),
        cache_write=cache_write,
        cache_write_1h=first(cache_write, "cache_write_1h_mtok"),
        input_audio=audio,
        output_reasoning=first(output, "output_reasoning_mtok"),
        output_audio=first(output, "output_audio_mtok"),
        output_image=first(output, "output_image_mtok"),
    )


def _at(prices: types.ModelPrice, name: str, start: int) -> Fraction | None:
    """Return one price, dollars per million tokens, in the tier that begins at `start`."""
    value = vars(prices).get(name)
    if isinstance(value, types.TieredPrices):
        reached = [tier.price for tier in value.tiers if tier.start <= start]
        return Fraction(reached[-1] if reached else value.base)
    return Fraction(value) if isinstance(value, Decimal) else None


def _clause(logic: object) -> Clause:
    """Turn one rule of the data (an object with a single field) into a plain pair."""
    ((kind, operand),) = vars(logic).items()
    if isinstance(operand, list):
        return _JOINED[kind], tuple(_clause(part) for part in operand)
    return _TESTS[kind], operand if kind == "regex" else operand.lower()


def _is(clause: Clause, name: str) -> bool:
    """Tell whether a rule holds for a model name in lower case."""
    test, operand = clause
    if isinstance(operand, str):
        return bool(test(name, operand))
    return bool(test(_is(part, name) for part in operand))


def _search(name: str, pattern: str) -> object:
    return re.search(pattern, name)


_TESTS: dict[str, Callable[..., object]] = {
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "contains": str.__contains__,
    "equals": str.__eq__,
    "regex": _search,
}
_JOINED: dict[str, Callable[..., object]] = {"or_": any, "and_": all}
