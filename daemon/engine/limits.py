"""One limiter's figures: what RateLimit fields say of it (behaviour §8.2) and its budget stage."""

from collections.abc import Callable

import msgspec

from daemon.engine.checks import Check
from protocol.amounts import as_number
from protocol.bundle import MICRO, CostBudget, LlmBudget, Stage
from protocol.operations import Verdict

_DAY = 86_400
_PLAIN = frozenset({"token_bucket", "sliding_window"})
_DAY_US = _DAY * MICRO


class Gauge(msgspec.Struct, frozen=True, gc=False):
    """A limiter's remaining and limit; `to_end(now)` gives (window, reset) where time decides."""

    remaining: float
    limit: float
    quota: int
    window: int = 0
    reset: int = 1
    to_end: Callable[[int], tuple[int, int]] | None = None


def gauges(check: Check, verdict: Verdict) -> list[Gauge]:
    """Return a granting limiter's candidates for the tightest, in the order of §8.2."""
    if check.kind == "token_bucket_llm":
        return _llm_gauges(check, verdict)
    left = verdict if isinstance(verdict, int) else verdict[0] or 0
    if check.kind == "cost_based":
        return [Gauge(as_number(left), check.limit, check.quota, to_end=_period_end(check))]
    if check.kind == "sliding_window":
        return [Gauge(left, check.limit, check.quota, to_end=_window_end(check))]
    return [Gauge(left, check.limit, check.quota, check.window)]


def roomier(check: Check, verdict: Verdict, ratio: float) -> bool:
    """Return whether a bucket or window has at least `ratio` of its limit left, and no stages.

    Says so before any gauge is built: of a policy's rules only the tightest needs one.
    """
    if check.kind not in _PLAIN or not isinstance(verdict, int):
        return False
    return verdict / check.limit >= ratio


def refused_gauge(
    check: Check, verdict: Verdict | None, reason: str, retry: int, now: int
) -> Gauge | None:
    """Return the refusing limiter's figures, None if it has no limit to speak of."""
    if check.rule is None or reason in {
        "descriptor_missing",
        "unknown_model",
        "counter_unavailable",
    }:
        return None
    if reason == "tpd_exceeded" and isinstance(verdict, list):
        _, day = _llm_limits(check)
        return Gauge(verdict[2] or 0, day[0], day[1], _DAY, _seconds_to_midnight(now))
    if check.kind == "cost_based":
        window, _ = _period_end(check)(now)
        return Gauge(0, check.limit, check.quota, window, retry)
    return Gauge(0, check.limit, check.quota, check.window, retry)


def stage_of(check: Check, left: int) -> Stage | None:
    """Return the highest non-reject stage whose threshold a budget's usage has reached."""
    config = check.rule.algorithm if check.rule else None
    if not isinstance(config, CostBudget):
        return None
    reached = None
    used = (config.budget - left) * 100
    for stage in config.stages:
        if stage.action != "reject" and used >= stage.threshold * config.budget:
            reached = stage
    return reached


def _llm_gauges(check: Check, verdict: Verdict) -> list[Gauge]:
    if isinstance(verdict, int):
        return []
    found = [Gauge(verdict[0] or 0, check.limit, check.quota, 60)]
    if verdict[1] is not None:
        _, day = _llm_limits(check)
        end = _day_end
        found.append(Gauge(max(0, verdict[1]), day[0], day[1], to_end=end))
    return found


def _llm_limits(check: Check) -> tuple[tuple[float, int], tuple[float, int]]:
    config = check.rule.algorithm if check.rule else None
    day = config.tokens_per_day if isinstance(config, LlmBudget) else None
    return (check.limit, check.quota), (as_number(day or 0), (day or 0) // MICRO)


def _day_end(now: int) -> tuple[int, int]:
    return _DAY, _seconds_to_midnight(now)


def _seconds_to_midnight(now: int) -> int:
    return max(1, -((now % _DAY_US - _DAY_US) // MICRO))


def _period_end(check: Check) -> Callable[[int], tuple[int, int]]:
    calendar = check.calendar

    def to_end(now: int) -> tuple[int, int]:
        if calendar is None:
            return 0, 1
        start, end = calendar.at(now)
        return (end - start) // MICRO, max(1, -((now - end) // MICRO))

    return to_end


def _window_end(check: Check) -> Callable[[int], tuple[int, int]]:
    window_us = check.window * MICRO

    def to_end(now: int) -> tuple[int, int]:
        return check.window, max(1, -((now % window_us - window_us) // MICRO))

    return to_end
