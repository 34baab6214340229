"""Loop detection (§5.7) and the spend circuit breaker (§5.8): checked only if enabled."""

from fractions import Fraction
from typing import get_args

from protocol.bundle import CircuitBreaker, LoopAction, LoopDetection
from protocol.validation.amounts import (
    NON_NEGATIVE_SPAN,
    POSITIVE,
    REPETITIONS,
    SPAN,
    to_micro,
)
from protocol.validation.fields import Fields

_LOOP_ACTIONS: tuple[LoopAction, ...] = get_args(LoopAction)
_LOOP_SETTINGS = ("window_seconds", "threshold_identical_requests", "action", "similarity")
_BREAKER_SETTINGS = (
    "spend_rate_threshold_per_minute",
    "action",
    "auto_reset_after_minutes",
    "alert",
)


def read_loop_detection(spec: Fields) -> LoopDetection | None:
    """Read `loop_detection`; None unless enabled."""
    fields = spec.section("loop_detection")
    if fields is None or not _enabled(fields, _LOOP_SETTINGS):
        return None
    loop = LoopDetection(
        window_seconds=int(fields.number("window_seconds", SPAN)),
        threshold=int(fields.number("threshold_identical_requests", REPETITIONS)),
        action=fields.choice("action", _LOOP_ACTIONS, default="reject"),
    )
    fields.choice("similarity", ("exact",), default="exact")
    fields.close()
    return loop


def read_circuit_breaker(spec: Fields) -> CircuitBreaker | None:
    """Read `circuit_breaker`; None unless enabled."""
    fields = spec.section("circuit_breaker")
    if fields is None or not _enabled(fields, _BREAKER_SETTINGS):
        return None
    breaker = CircuitBreaker(
        threshold=to_micro(fields.number("spend_rate_threshold_per_minute", POSITIVE)),
        auto_reset_minutes=fields.number(
            "auto_reset_after_minutes", NON_NEGATIVE_SPAN, default=Fraction(0)
        ),
        alert=fields.boolean("alert", default=False),
    )
    fields.choice("action", ("reject",), default="reject")
    fields.close()
    return breaker


def _enabled(fields: Fields, settings: tuple[str, ...]) -> bool:
    enabled = fields.boolean("enabled", default=False)
    if enabled:
        return True
    fields.names(*settings)
    if not fields.has("enabled"):
        fields.warning(
            "enabled", f'{fields.kind} is off without "enabled": true, whatever else it says'
        )
    fields.close()
    return False
