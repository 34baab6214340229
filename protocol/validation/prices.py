"""`model_prices`: US dollars per million tokens (§5.5.3)."""

import re
from fractions import Fraction

from protocol.bundle import MICRO, ModelPrice
from protocol.validation.amounts import NON_NEGATIVE, exact
from protocol.validation.fields import Fields
from protocol.validation.report import child
from protocol.validation.wording import show

# Twenty digits on either side say any price; without a bound a text could be megabytes of digits.
_DECIMAL = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")
_WORDS = 'a non-negative number of dollars, or a decimal string such as "2.50"'


def read_model_prices(document: Fields) -> tuple[tuple[str, ModelPrice], ...]:
    """Read the price table, in the order of the bundle."""
    prices = []
    place = document.at("model_prices")
    for model, value in document.entries("model_prices").items():
        here = child(place, model)
        if not isinstance(value, dict):
            document.findings.error(
                here,
                "a model's price must be an object with input_per_million and "
                f"output_per_million; got {show(value)}",
            )
            continue
        fields = Fields(value, here, "a model's price", document.findings)
        if "*" in model[:-1]:
            fields.findings.warning(
                here, "only a `*` at the end of a model's name stands for any text"
            )
        prices.append(
            (
                model,
                ModelPrice(
                    _price(fields, "input_per_million"), _price(fields, "output_per_million")
                ),
            )
        )
        fields.close()
    return tuple(prices)


def _price(fields: Fields, name: str) -> Fraction:
    value = fields.raw(name)
    if isinstance(value, str):
        dollars = Fraction(value) if _DECIMAL.fullmatch(value) else None
        remark = ""
    else:
        dollars = exact(value)
        remark = NON_NEGATIVE.fault(value) or ""
    if dollars is None or not NON_NEGATIVE.low <= dollars <= NON_NEGATIVE.high:
        fields.demand(name, _WORDS, required=True, remark=remark)
        return Fraction(0)
    return dollars * MICRO
