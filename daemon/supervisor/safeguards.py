"""The circuit breakers of a bundle, as shards name them and as operators know them (§5.8, §17)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from daemon.engine.compile import compile_bundle
from daemon.engine.costs import CostCompiler
from daemon.engine.sources import no_prices
from protocol.bundle import Bundle, Rule


@dataclass(frozen=True, slots=True)
class Breaker:
    """One breaker of a policy. `scope` is the descriptor key it counts by, "" if it has none."""

    policy_id: str
    mode: Literal["enforce", "shadow"]
    scope: str


def breakers(bundle: Bundle) -> Mapping[str, Breaker]:
    """Return a bundle's breakers by the identity of their counters."""
    plan = compile_bundle(bundle, CostCompiler(bundle, no_prices))
    scopes = {policy.id: _scope(policy.rules) for policy in bundle.policies}
    return {
        plan.table[policy.breaker.number].identity: Breaker(
            policy.id, "shadow" if policy.shadow else "enforce", scopes[policy.id]
        )
        for policy in plan.policies + plan.shadowed
        if policy.breaker is not None
    }


def _scope(rules: Sequence[Rule]) -> str:
    """Return the first limit key of the first rule that has any."""
    return next((rule.limit_keys[0] for rule in rules if rule.limit_keys), "")
