"""`algorithm_config` of cost_based (§5.5.3)."""

from fractions import Fraction
from functools import cache
from importlib import resources
from typing import get_args

from protocol.bundle import CostBudget, Period, Stage, StageAction
from protocol.validation.amounts import PERCENT, POSITIVE, to_micro
from protocol.validation.costs import (
    read_cost,
    read_default_completion,
    read_estimator,
    read_reservation,
)
from protocol.validation.fields import Fields, open_item
from protocol.validation.wording import guess, listing

_PERIODS: tuple[Period, ...] = get_args(Period)
_CALENDAR_PERIODS: tuple[Period, ...] = ("1d", "7d", "1mo")
_STAGE_ACTIONS: tuple[StageAction, ...] = get_args(StageAction)
_LONGEST_DELAY_MS = 30_000
_WHOLE = Fraction(100)


def read_cost_budget(config: Fields) -> CostBudget:
    """Read a budget."""
    cost = read_cost(config, "cost_key", "llm:usd", "llm:tokens")
    reservation = read_reservation(config)
    if reservation == "learned" and not cost.kind.startswith("llm:") and config.sound("cost_key"):
        config.warning(
            "reservation", "reservation has no effect unless cost_key is `llm:usd` or `llm:tokens`"
        )
    return CostBudget(
        budget=to_micro(config.number("budget", POSITIVE)),
        period=config.choice("period", _PERIODS),
        stages=_stages(config),
        timezone=_timezone(config),
        cost=cost,
        default_max_completion=read_default_completion(config),
        estimator=read_estimator(config),
        reservation=reservation,
    )


@cache
def _zones() -> frozenset[str]:
    # Package data of tzdata, not the host's zone files, so that a bundle is equally valid on
    # every host; some 600 names, read once.
    return frozenset(resources.files("tzdata").joinpath("zones").read_text("utf-8").split())


def _timezone(config: Fields) -> str:
    if not config.has("timezone"):
        return "UTC"
    value = config.raw("timezone")
    zone = value if isinstance(value, str) and value in _zones() else None
    if zone is None:
        config.demand(
            "timezone",
            "an IANA name such as `Europe/Berlin`",
            remark=guess(value, _zones()),
        )
    if config.sound("period") and config.raw("period") not in _CALENDAR_PERIODS:
        config.error(
            "timezone",
            f"timezone goes only with period {listing(_CALENDAR_PERIODS)}, "
            f"which follow a calendar; leave it out for `{config.raw('period')}`",
        )
    return zone or "UTC"


def _stages(config: Fields) -> tuple[Stage, ...]:
    name = "staged_actions"
    values = config.array(name, "a non-empty array of stages", filled=True)
    stages = []
    final = False
    for index in range(len(values)):
        entry = open_item(values, index, config.at(name), "a stage", config.findings)
        if entry is None:
            continue
        stage = _stage(entry)
        # What is wrong with a stage has been said; it may well have been meant as the last one.
        at_100 = stage.threshold == _WHOLE or not entry.sound("threshold_percent")
        final |= at_100 and (stage.action == "reject" or not entry.sound("action"))
        if entry.sound("threshold_percent"):
            stages.append(stage)
    stages.sort(key=lambda stage: stage.threshold)
    if len({stage.threshold for stage in stages}) < len(stages):
        config.error(name, "stages must be ascending: two of them have the same threshold_percent")
    if values and not final:
        config.error(
            name,
            'a budget needs a reject at 100: add {"threshold_percent": 100, "action": "reject"}',
        )
    return tuple(stages)


def _stage(entry: Fields) -> Stage:
    threshold = entry.number("threshold_percent", PERCENT)
    action = entry.choice("action", _STAGE_ACTIONS)
    delay = Fraction(0)
    if action == "throttle":
        delay = entry.number("delay_ms", POSITIVE)
        if delay > _LONGEST_DELAY_MS:
            entry.warning("delay_ms", f"delay_ms is cut to {_LONGEST_DELAY_MS}, the longest delay")
    elif entry.has("delay_ms"):
        entry.warning("delay_ms", "delay_ms has no effect unless the action is `throttle`")
    if action == "reject" and threshold < _WHOLE and entry.sound("threshold_percent", "action"):
        entry.warning("action", "a reject below 100 has no effect: only the whole budget rejects")
    entry.close()
    return Stage(threshold, action, delay)
