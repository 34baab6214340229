"""What a front asks of a shard: numbered rules, operations on counters, and verdicts.

Rules
- A reload numbers every limiter of a bundle and sends the table (`RuleSpec`s) with a generation
  to all shards; afterwards an operation is just (number, key, cost).
- Operations of one request stand in evaluation order (§5.1). A shard applies its part of them all
  or none: the first refusal of an enforcing policy stops and undoes; the first refusal inside a
  shadow policy undoes and skips that policy's segment only.
- Amounts are integer micro-units, times integer microseconds since the epoch.

Verdicts (`Verdict`): an integer, or a list whose first item is that integer and whose rest is
detail. Negative = refused, and its magnitude is the retry time in whole seconds (at least 1).
Zero or more = granted. `None` stands for an operation that was not evaluated.

| kind             | cost        | granted                       | refused                     |
|------------------|-------------|-------------------------------|-----------------------------|
| token_bucket     | micro-units | floor(tokens left)            | -retry                      |
| sliding_window   | micro-units | floor(units left)             | -retry                      |
| cost_based       | micro-units | micro-units left              | -retry                      |
| token_bucket_llm | tokens      | [minute left, day left | nil] | [-retry, 0] minute,         |
|                  |             |                               | [-retry, 1, day left] day   |
| loop             | 0           | identical requests            | [-window_seconds, requests] |
| breaker          | micro-units | floor(micro-units per minute) | [-retry, opened now, rate]  |
| refuse           | 0           | never                         | -1                          |

`refuse` is how the engine marks a place where it already knows that the request fails (a missing
descriptor, a prompt too large): everything before it is evaluated and then undone.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "token_bucket",
    "sliding_window",
    "cost_based",
    "token_bucket_llm",
    "loop",
    "breaker",
    "refuse",
]

Key = str | bytes
"""A counter's key: the encoded limit-key values, or their digest (bytes) when they are long."""

Verdict = int | list[int | None]

Wire = Any
"""A value as it came off a socket: its shape is checked where a frame is taken in."""


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """One limiter as a shard sees it.

    `identity` names the counters across generations: equal identities keep their counters on a
    reload (§2.7). `segment` numbers the policy within its bundle. `params` by kind:

    token_bucket      rate_num, rate_den (micro-tokens per microsecond), burst (micro-tokens)
    sliding_window    limit (micro-units), window_seconds
    cost_based        budget (micro-units), period, timezone
    token_bucket_llm  tpm, burst (micro-tokens), tpd (micro-tokens or None)
    loop              window_seconds, threshold, reject (bool)
    breaker           threshold (micro-units per minute), auto_reset (microseconds, 0 = by hand)
    refuse            nothing
    """

    kind: Kind
    identity: str
    segment: int
    shadow: bool
    params: dict[str, int | str | bool | None] = field(default_factory=dict)

    def to_wire(self) -> list[object]:
        """Return the spec as a msgpack-able list."""
        return [self.kind, self.identity, self.segment, self.shadow, self.params]
