"""Where a request's cost comes from (§5.5.1), and the estimate of LLM tokens (§5.6)."""

from fractions import Fraction
from typing import get_args

from protocol.bundle import CostKind, CostSource, Estimator, Reservation
from protocol.descriptors import canonical_header, valid_name
from protocol.validation.amounts import POSITIVE, to_micro
from protocol.validation.fields import Fields
from protocol.validation.wording import guess, listing

_ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
_RESERVATIONS: tuple[Reservation, ...] = get_args(Reservation)
_DEFAULT_MAX_COMPLETION = Fraction(1000)
_ONE = Fraction(1)


def read_cost(config: Fields, name: str, *more: CostKind) -> CostSource:
    """Read a cost source from the field `name`; `more` lists kinds beyond §5.5.1's own."""
    kind, parameter = _kind_and_name(config, name, ("fixed", *more))
    return CostSource(
        kind,
        parameter,
        to_micro(config.number("fixed_cost", POSITIVE, default=_ONE)),
        to_micro(config.number("default_cost", POSITIVE, default=_ONE)),
    )


def read_estimator(config: Fields) -> Estimator:
    """Read `token_source.estimator`."""
    source = config.section("token_source", words='an object such as {"estimator": "simple_word"}')
    if source is None:
        return _ESTIMATORS[0]
    estimator = source.choice("estimator", _ESTIMATORS, default=_ESTIMATORS[0])
    source.close()
    return estimator


def read_default_completion(config: Fields) -> int:
    """Read `default_max_completion` in whole tokens."""
    return at_least_one(
        config.number("default_max_completion", POSITIVE, default=_DEFAULT_MAX_COMPLETION)
    )


def read_reservation(config: Fields) -> Reservation:
    """Read `reservation`: how much of an answer is reserved before it is known."""
    return config.choice("reservation", _RESERVATIONS, default=_RESERVATIONS[0])


def at_least_one(count: Fraction) -> int:
    """Return a positive count in whole tokens, floored, but not to nothing."""
    return max(1, int(count))


def _kind_and_name(config: Fields, field: str, plain: tuple[CostKind, ...]) -> tuple[CostKind, str]:
    if not config.has(field):
        return "fixed", ""
    value = config.raw(field)
    if isinstance(value, str):
        for kind in plain:
            if value == kind:
                return kind, ""
        source, _, name = value.partition(":")
        if source == "header" and valid_name(name):
            return "header", canonical_header(name)
        if source == "query" and valid_name(name):
            return "query", name
    options = (*plain, "header:<name>", "query:<name>")
    config.demand(field, f"one of {listing(options)}", remark=guess(value, options))
    return "fixed", ""
