"""A compiled bundle's pieces: checks (one numbered limiter each) and the policies that hold them.

Everything that does not depend on the request is worked out here, once per load.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from daemon.engine.context import Context
from daemon.engine.extract import Extractor
from protocol.bundle import CircuitBreaker, LoopDetection, Rule, Selector
from protocol.operations import Kind
from protocol.periods import Calendar

Cost = Callable[[Context], int | list[object] | str]
"""A request's cost on the wire: an amount, `[amount, rates]` for dollars; text = why it fails."""


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """One numbered limiter of a policy, as the engine asks it and reads its verdicts.

    `number` is its place in the rule table and `refuse` that of its policy's refuse entry. `quota`
    and `window` are the integer limit and window of the RateLimit fields; `limit` is the exact one.
    """

    kind: Kind
    number: int
    refuse: int
    segment: int
    shadow: bool
    policy_id: str
    route: str
    name: str | None = None
    rule: Rule | None = None
    extract: tuple[Extractor, ...] = ()
    only: Extractor | None = None
    match: tuple[tuple[Extractor, str], ...] = ()
    fixed_cost: int | None = None
    cost: Cost | None = None
    reserves: bool = False
    dollars: bool = False
    learns: bool = False
    status: int = 429
    on_error: Literal["allow", "reject", "local"] = "allow"
    limit: float = 0
    quota: int = 0
    window: int = 0
    calendar: Calendar | None = None
    loop: LoopDetection | None = None
    breaker: CircuitBreaker | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CompiledPolicy:
    """One policy in evaluation order: loop detection, breaker, rules (§5.1).

    `placed_by` reads the values that place the loop counter beside the first rule's counters;
    `fingerprint_keys` are all limit keys of the policy; `breaker_key` and `breaker_cost` as §5.8.
    """

    id: str
    selector: Selector
    shadow: bool
    segment: int
    rules: tuple[Check, ...]
    fallback: Check | None
    loop: Check | None
    breaker: Check | None
    placed_by: tuple[Extractor, ...] = ()
    fingerprint_keys: tuple[tuple[str, Extractor], ...] = ()
    breaker_key: Extractor | None = None
    breaker_cost: Cost | None = None

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every numbered limiter of the policy."""
        safeguards = (self.loop, self.breaker, self.fallback)
        return self.rules + tuple(check for check in safeguards if check is not None)
