"""What the counters of a rule are called, in memory and on disk (behaviour §4.5).

A name holds all that gives the counters their meaning: mode, policy, rule, algorithm, the shape of
the algorithm's state, and the limit keys in order. The limit itself is not part of it, so counters
survive its change (§2.7). Every part is length-prefixed: different rules never share a name.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_SHAPE = {"token_bucket": 1, "sliding_window": 1, "cost_based": 3, "token_bucket_llm": 1}
"""How many parts of a rule's name tell the shape of its state (`daemon.engine.compile`)."""
_RULE_PARTS = 2


@dataclass(frozen=True, slots=True)
class CounterName:
    """A name taken apart; `rule` is `loop` or `breaker` for a policy's own safeguards."""

    mode: str
    policy: str
    rule: str
    limit_keys: tuple[str, ...] = ()


def counter_name(policy: str, own: str, *, shadow: bool) -> str:
    """Return the name of what is called `own` within a policy."""
    mode = "shadow" if shadow else "enforce"
    return f"{mode}:{len(policy)}:{policy}:{own}"


def rule_name(rule: str, kind: str, shape: Sequence[str], limit_keys: Sequence[str]) -> str:
    """Return a rule's name within its policy."""
    return "".join(f"{len(part)}:{part}" for part in (rule, kind, *shape, *limit_keys))


def read_counter_name(name: str) -> CounterName:
    """Return the parts that `counter_name` put together.

    Raises:
        ValueError: it did not.
    """
    mode, _, rest = name.partition(":")
    length, _, rest = rest.partition(":")
    policy, own = rest[: int(length)], rest[int(length) + 1 :]
    if not own[:1].isdigit():
        return CounterName(mode, policy, own.partition(":")[0])
    parts = []
    while own:
        length, _, own = own.partition(":")
        parts.append(own[: int(length)])
        own = own[int(length) :]
    if len(parts) < _RULE_PARTS:
        raise ValueError(f"not a counter's name: {name!r}")
    return CounterName(mode, policy, parts[0], tuple(parts[_RULE_PARTS + _SHAPE[parts[1]] :]))
