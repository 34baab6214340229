"""Which rules' counters are stored: those that take longer than 10 s to refill (§13.5)."""

from protocol.operations import RuleSpec
from shard.algorithms.limiter import MICRO, integer

REFILL_US = 10 * MICRO


def is_stored(spec: RuleSpec) -> bool:
    """Return whether a lost counter of this rule would matter for more than 10 s."""
    params = spec.params
    match spec.kind:
        case "refuse":
            return False
        case "token_bucket":
            full = integer(params, "burst") * integer(params, "rate_den")
            return full > integer(params, "rate_num") * REFILL_US
        case "sliding_window":
            return 2 * integer(params, "window_seconds") * MICRO > REFILL_US
        case "loop":
            return integer(params, "window_seconds") * MICRO > REFILL_US
    return True
