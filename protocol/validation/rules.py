"""One rule, or a policy's `fallback_limit` (§2.4)."""

from collections.abc import Callable
from fractions import Fraction
from typing import Literal, get_args

from protocol.bundle import (
    MICRO,
    Algorithm,
    OnError,
    OnMissing,
    Rule,
    TokenBucket,
    UnknownModel,
)
from protocol.descriptors import value_text
from protocol.validation.buckets import read_sliding_window, read_token_bucket
from protocol.validation.budgets import read_cost_budget
from protocol.validation.fields import Fields, is_text
from protocol.validation.keys import canonical_key, key_fault
from protocol.validation.llm import read_llm_budget
from protocol.validation.report import child, item
from protocol.validation.wording import guess, listing, show

_ON_MISSING: tuple[OnMissing, ...] = get_args(OnMissing)
_ON_ERROR: tuple[OnError, ...] = get_args(OnError)
_UNKNOWN_MODEL: tuple[UnknownModel, ...] = get_args(UnknownModel)
_STATUSES: tuple[Literal[429, 503], ...] = (429, 503)

# Budgets call the same thing by another name (§5.5.1).
_SWAPPED = {"cost_source": "cost_key", "cost_key": "cost_source"}
_STAND_IN = TokenBucket(Fraction(1), MICRO)

_ALGORITHMS: dict[str, Callable[[Fields], Algorithm]] = {
    "token_bucket": read_token_bucket,
    "sliding_window": read_sliding_window,
    "cost_based": read_cost_budget,
    "token_bucket_llm": read_llm_budget,
}


def read_rule(fields: Fields, *, default_name: str | None = None) -> Rule:
    """Read a rule; without a default its name is required."""
    rule = Rule(
        name=fields.text("name", default=default_name),
        limit_keys=_limit_keys(fields),
        algorithm=_algorithm(fields),
        match=_match(fields),
        on_missing=fields.choice("on_missing", _ON_MISSING, default="skip"),
        on_error=fields.choice("on_error", _ON_ERROR, default="allow"),
        reject_status=_reject_status(fields),
        unknown_model=fields.choice("unknown_model", _UNKNOWN_MODEL, default="default_cost"),
    )
    fields.close()
    return rule


def _limit_keys(fields: Fields) -> tuple[str, ...]:
    keys = []
    values = fields.array("limit_keys", "an array of descriptor keys (empty: one common counter)")
    for index, value in enumerate(values):
        key = canonical_key(value)
        if key is None:
            place = item(fields.at("limit_keys"), index)
            fields.findings.error(place, key_fault("a limit_key", value))
        else:
            keys.append(key)
    return tuple(keys)


def _algorithm(fields: Fields) -> Algorithm:
    config = fields.section("algorithm_config", required=True)
    name = fields.raw("algorithm")
    reader = _ALGORITHMS.get(name) if isinstance(name, str) else None
    if reader is None:
        supported = f"one of {listing(_ALGORITHMS)}"
        if isinstance(name, str):
            fields.error(
                "algorithm",
                f"unsupported algorithm {show(name)}: must be {supported}"
                f"{guess(name, _ALGORITHMS)}",
            )
        else:
            fields.demand("algorithm", f"a string, {supported}", required=True)
    if reader is None or config is None:
        return _STAND_IN
    config.kind = f"the algorithm_config of {name}"
    algorithm = reader(config)
    config.close(instead=_SWAPPED)
    return algorithm


def _match(fields: Fields) -> tuple[tuple[str, str], ...]:
    pairs = []
    for written, value in fields.entries("match").items():
        place = child(fields.at("match"), written)
        key, text = canonical_key(written), value_text(value)
        if key is None:
            fields.findings.error(place, key_fault("a key of match", written))
        elif text is None or (text and not is_text(text)):
            # Not shown: a rule may be for one API key.
            must = "a value of match must be a string, a number or a boolean"
            fields.findings.error(place, must)
        else:
            if not text:
                fields.findings.warning(
                    place, "match never holds here: a descriptor with empty text counts as missing"
                )
            pairs.append((key, text))
    return tuple(pairs)


def _reject_status(fields: Fields) -> Literal[429, 503]:
    if not fields.has("reject_status"):
        return 429
    value = fields.raw("reject_status")
    for status in _STATUSES:
        if value == status:
            return status
    remark = ", a string: write it without quotes" if value in ("429", "503") else ""
    fields.demand("reject_status", "429 or 503", remark=remark)
    return 429
