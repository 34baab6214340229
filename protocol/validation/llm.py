"""`algorithm_config` of token_bucket_llm (§5.6) and its `streaming` (§11.3)."""

from fractions import Fraction
from typing import Literal

from protocol.bundle import LlmBudget, Streaming
from protocol.validation.amounts import POSITIVE, Range, to_micro
from protocol.validation.costs import (
    at_least_one,
    read_default_completion,
    read_estimator,
    read_reservation,
)
from protocol.validation.fields import Fields

_CLOSINGS: tuple[Literal["graceful_close", "error_chunk"], ...] = ("graceful_close", "error_chunk")
_BUFFER_TOKENS = Fraction(100)


def read_llm_budget(config: Fields) -> LlmBudget:
    """Read an LLM token limit."""
    per_minute = config.number("tokens_per_minute", POSITIVE)
    per_day = config.optional_number("tokens_per_day", POSITIVE)
    return LlmBudget(
        tokens_per_minute=to_micro(per_minute),
        burst_tokens=to_micro(_burst(config, per_minute)),
        tokens_per_day=None if per_day is None else to_micro(per_day),
        max_prompt_tokens=_cap(config, "max_prompt_tokens"),
        max_completion_tokens=_cap(config, "max_completion_tokens"),
        max_tokens_per_request=_cap(config, "max_tokens_per_request"),
        default_max_completion=read_default_completion(config),
        estimator=read_estimator(config),
        reservation=read_reservation(config),
        streaming=_streaming(config),
    )


def _burst(config: Fields, per_minute: Fraction) -> Fraction:
    if not config.has("burst_tokens"):
        return per_minute
    # One fragment covers every fault of this field, so its floor is part of what it must be.
    known = config.sound("tokens_per_minute")
    floor = Range(
        ">= tokens_per_minute and a positive number",
        per_minute if known else POSITIVE.low,
        POSITIVE.high,
        above_low=not known,
    )
    return config.number("burst_tokens", floor, default=per_minute)


def _cap(config: Fields, name: str) -> int | None:
    cap = config.optional_number(name, POSITIVE)
    return None if cap is None else int(cap)


def _streaming(config: Fields) -> Streaming:
    fields = config.section("streaming")
    if fields is None:
        return Streaming()
    streaming = Streaming(
        enabled=fields.boolean("enabled", default=True),
        enforce_mid_stream=fields.boolean("enforce_mid_stream", default=True),
        include_partial_usage=fields.boolean("include_partial_usage", default=True),
        buffer_tokens=at_least_one(
            fields.number("buffer_tokens", POSITIVE, default=_BUFFER_TOKENS)
        ),
        on_limit_exceeded=fields.choice("on_limit_exceeded", _CLOSINGS, default="graceful_close"),
    )
    fields.close()
    return streaming
