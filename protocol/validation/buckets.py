"""`algorithm_config` of token_bucket and sliding_window (§5.5.2)."""

from protocol.bundle import SlidingWindow, TokenBucket
from protocol.validation.amounts import POSITIVE, POSITIVE_RATE, SPAN, to_micro, to_rate
from protocol.validation.costs import read_cost
from protocol.validation.fields import Fields
from protocol.validation.wording import show


def read_token_bucket(config: Fields) -> TokenBucket:
    """Read a token bucket; `rps` stands in for an absent `tokens_per_second`."""
    config.adopt("tokens_per_second", alias="rps")
    rate = config.number("tokens_per_second", POSITIVE_RATE)
    burst = config.number("burst", POSITIVE)
    if config.sound("tokens_per_second", "burst") and burst < rate:
        config.error(
            "burst",
            "burst must be >= tokens_per_second, or a second's tokens would never fit; "
            f"got {show(config.raw('burst'))} for {show(config.raw('tokens_per_second'))} a second",
        )
    return TokenBucket(to_rate(rate), to_micro(burst), read_cost(config, "cost_source"))


def read_sliding_window(config: Fields) -> SlidingWindow:
    """Read a sliding window."""
    limit = config.number("limit", POSITIVE)
    window = config.number("window_seconds", SPAN)
    return SlidingWindow(to_micro(limit), int(window), read_cost(config, "cost_source"))
