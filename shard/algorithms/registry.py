"""Which limiter stands for which kind of rule, and how rules come in from the wire."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from protocol.operations import Kind, RuleSpec
from shard.algorithms.breaker import BreakerLimiter
from shard.algorithms.cost_based import BudgetLimiter
from shard.algorithms.limiter import Limiter, Param, Params
from shard.algorithms.loop import LoopLimiter
from shard.algorithms.refuse import RefuseLimiter
from shard.algorithms.sliding_window import SlidingWindowLimiter
from shard.algorithms.token_bucket import TokenBucketLimiter
from shard.algorithms.token_bucket_llm import LlmLimiter

AnyLimiter = Limiter[Any]
"""A limiter whose states only it can read; `Any` because tables hold all kinds side by side."""

BUILDERS: Final[Mapping[Kind, Callable[[Params], AnyLimiter]]] = {
    "token_bucket": TokenBucketLimiter.build,
    "sliding_window": SlidingWindowLimiter.build,
    "cost_based": BudgetLimiter.build,
    "token_bucket_llm": LlmLimiter.build,
    "loop": LoopLimiter.build,
    "breaker": BreakerLimiter.build,
    "refuse": RefuseLimiter.build,
}


def build(spec: RuleSpec) -> AnyLimiter:
    """Return the limiter of a rule.

    Raises:
        TypeError: if a number is absent or is none.
        KeyError: if another parameter is absent.
    """
    return BUILDERS[spec.kind](spec.params)


def from_wire(item: object) -> RuleSpec:
    """Return the rule that `RuleSpec.to_wire` wrote.

    Raises:
        msgspec.ValidationError: if the item is anything else.
    """
    return RuleSpec(*msgspec.convert(item, tuple[Kind, str, int, bool, dict[str, Param]]))
