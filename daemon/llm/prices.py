"""Which price a model has: the bundle's, else the built-in table's (behaviour §5.5.3)."""

from collections.abc import Iterable

from daemon.llm.builtin_prices import BuiltinPrices
from protocol.bundle import MICRO, ModelPrice
from protocol.pricing import Rates, TokenPrices

_REMEMBERED = 1024
_LONGEST_NAME = 200


class PriceTable:
    """Finds rates by model: an exact entry of the bundle, its longest prefix, then built-in."""

    __slots__ = ("_builtin", "_exact", "_prefixes", "_remembered")

    def __init__(
        self,
        model_prices: Iterable[tuple[str, ModelPrice]] = (),
        builtin: BuiltinPrices | None = None,
    ) -> None:
        self._exact: dict[str, Rates] = {}
        prefixes: list[tuple[str, Rates]] = []
        for name, price in model_prices:
            if name.endswith("*"):
                prefixes.append((name[:-1], rates_of(price)))
            else:
                self._exact[name] = rates_of(price)
        self._prefixes = sorted(prefixes, key=lambda entry: len(entry[0]), reverse=True)
        self._builtin = builtin
        # Models come from strangers: remember few of them, and forget all at once when full.
        self._remembered: dict[tuple[str, str | None], Rates | None] = {}

    def rates(self, model: str | None, provider: str | None = None) -> Rates | None:
        """Return the rates of a model at a provider (`llm:provider`); None if it is unknown."""
        if not model:
            return None
        if len(model) > _LONGEST_NAME:  # no vendor's model, but perhaps a prefix of the operator's
            return self._of_bundle(model)
        key = (model, provider)
        if key in self._remembered:
            return self._remembered[key]
        found = self._of_bundle(model)
        if found is None and self._builtin:
            found = self._builtin.find(model, provider)
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        self._remembered[key] = found
        return found

    def _of_bundle(self, model: str) -> Rates | None:
        if model in self._exact:
            return self._exact[model]
        for prefix, rates in self._prefixes:
            if model.startswith(prefix):
                return rates
        return None


def rates_of(price: ModelPrice) -> Rates:
    """Return a bundle entry as rates: one price for all input, one for all output tokens."""
    flat = TokenPrices.flat(price.input_per_million / MICRO, price.output_per_million / MICRO)
    return Rates.of((-1, flat))
