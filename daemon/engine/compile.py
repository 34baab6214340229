"""A validated bundle to numbered checks: the shards' rule table and the engine's policies.

Numbering is a pure function of the bundle, so every process that compiles the same bytes gets the
same table. A policy appears twice when the bundle can put everything into shadow mode (§2.2).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import ceil, floor

from daemon.engine.checks import Check, CompiledPolicy, Cost
from daemon.engine.costs import CostCompiler, learns
from daemon.engine.extract import Extractor, extractor
from protocol.amounts import as_number
from protocol.bundle import (
    MICRO,
    Bundle,
    CostBudget,
    LlmBudget,
    Policy,
    Rule,
    SlidingWindow,
    TokenBucket,
)
from protocol.counter_names import counter_name, rule_name
from protocol.operations import Kind, RuleSpec
from protocol.periods import Calendar

_MINUTE_US = 60 * MICRO
_BUCKET_UNITS = (10**3, 10**6)
"""Rates of up to 3 and 6 decimals share a unit each: a bucket survives a change of its rate (§2.7).
The 30 ns that the larger numbers cost are 0.2 % of a decision."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A bundle compiled: `table[n]` is rule number n; `shadowed` is empty without global shadow."""

    table: tuple[RuleSpec, ...]
    policies: tuple[CompiledPolicy, ...]
    shadowed: tuple[CompiledPolicy, ...]


def compile_bundle(bundle: Bundle, costs: CostCompiler) -> Plan:
    """Return the plan of a validated bundle."""
    builder = _Builder(costs)
    policies = tuple(
        builder.policy(policy, shadow=policy.mode == "shadow") for policy in bundle.policies
    )
    shadowed: tuple[CompiledPolicy, ...] = ()
    if bundle.global_shadow is not None:
        shadowed = tuple(
            compiled if compiled.shadow else builder.policy(policy, shadow=True)
            for policy, compiled in zip(bundle.policies, policies, strict=True)
        )
    return Plan(tuple(builder.table), policies, shadowed)


@dataclass(slots=True)
class _Builder:
    costs: CostCompiler
    table: list[RuleSpec] = field(default_factory=list)
    segments: Iterator[int] = field(default_factory=lambda: iter(range(1 << 31)))

    def policy(self, policy: Policy, *, shadow: bool) -> CompiledPolicy:
        segment = next(self.segments)
        place = _Place(policy, segment, shadow=shadow, add=self._add)
        place.refuse = place.number("refuse", "refuse", {})
        keyed = next((rule for rule in policy.rules if rule.limit_keys), None)
        everything = (*policy.rules, *((policy.fallback_limit,) if policy.fallback_limit else ()))
        keys = sorted({key for rule in everything for key in rule.limit_keys})
        return CompiledPolicy(
            id=policy.id,
            selector=policy.selector,
            shadow=shadow,
            segment=segment,
            loop=_loop(policy, place),
            breaker=_breaker(policy, place),
            rules=tuple(self._rule(rule, place) for rule in policy.rules),
            fallback=self._rule(policy.fallback_limit, place) if policy.fallback_limit else None,
            placed_by=tuple(extractor(key) for key in keyed.limit_keys) if keyed else (),
            fingerprint_keys=tuple((key, extractor(key)) for key in keys),
            breaker_key=extractor(keyed.limit_keys[0]) if keyed else None,
            breaker_cost=self._breaker_cost(policy) if policy.circuit_breaker else None,
        )

    def _add(self, spec: RuleSpec) -> int:
        self.table.append(spec)
        return len(self.table) - 1

    def _rule(self, rule: Rule, place: "_Place") -> Check:
        kind, shape, params = _PARAMETERS[type(rule.algorithm)](rule.algorithm)
        identity = rule_name(rule.name, kind, shape, rule.limit_keys)
        extract = tuple(extractor(key) for key in rule.limit_keys)
        cost = self.costs.of(rule, place.policy_id)
        fixed = cost if isinstance(cost, int) else None
        limit, quota, window = _figures(rule.algorithm)
        return place.check(
            kind,
            identity,
            params,
            name=rule.name,
            rule=rule,
            extract=extract,
            only=extract[0] if len(extract) == 1 else None,
            match=tuple((extractor(key), text) for key, text in rule.match),
            fixed_cost=fixed,
            cost=None if isinstance(cost, int) else cost,
            reserves=kind == "token_bucket_llm" or bool(params.get("settle")),
            dollars=params.get("settle") == "usd",
            learns=learns(rule.algorithm),
            status=rule.reject_status,
            on_error=rule.on_error,
            limit=limit,
            quota=quota,
            window=window,
            calendar=_calendar(rule.algorithm),
        )

    def _breaker_cost(self, policy: Policy) -> Cost | None:
        if not policy.rules:
            return None
        return self.costs.spend(policy.rules[0])


class _Place:
    """Where a policy's checks go: shared identity and labels."""

    def __init__(
        self, policy: Policy, segment: int, *, shadow: bool, add: Callable[[RuleSpec], int]
    ) -> None:
        self._policy = policy
        self.policy_id = policy.id
        self._segment = segment
        self._shadow = shadow
        self._add = add
        self.refuse = -1

    def number(self, kind: Kind, identity: str, params: dict[str, int | str | bool | None]) -> int:
        name = counter_name(self._policy.id, identity, shadow=self._shadow)
        return self._add(RuleSpec(kind, name, self._segment, self._shadow, params))

    def check(
        self,
        kind: Kind,
        identity: str,
        params: dict[str, int | str | bool | None],
        **about: object,
    ) -> Check:
        return Check(
            kind=kind,
            number=self.number(kind, identity, params),
            refuse=self.refuse,
            segment=self._segment,
            shadow=self._shadow,
            policy_id=self._policy.id,
            route=self._policy.selector.label,
            **about,  # type: ignore[arg-type]  # the caller names Check's own fields
        )


def _loop(policy: Policy, place: _Place) -> Check | None:
    loop = policy.loop_detection
    if loop is None:
        return None
    params: dict[str, int | str | bool | None] = {
        "window_seconds": loop.window_seconds,
        "threshold": loop.threshold,
        "reject": loop.action == "reject",
    }
    return place.check("loop", f"loop:{loop.window_seconds}", params, loop=loop)


def _breaker(policy: Policy, place: _Place) -> Check | None:
    breaker = policy.circuit_breaker
    if breaker is None:
        return None
    params: dict[str, int | str | bool | None] = {
        "threshold": breaker.threshold,
        "auto_reset": int(breaker.auto_reset_minutes * _MINUTE_US),
    }
    return place.check("breaker", "breaker", params, breaker=breaker)


Parameters = tuple[Kind, list[str], dict[str, int | str | bool | None]]


def _token_bucket(config: TokenBucket) -> Parameters:
    rate = config.rate
    fits = (unit for unit in _BUCKET_UNITS if unit % rate.denominator == 0)
    unit = next(fits, rate.denominator)
    return (
        "token_bucket",
        [str(unit)],  # levels are held in 1/unit micro-tokens
        {"rate_num": int(rate * unit), "rate_den": unit, "burst": config.burst},
    )


def _sliding_window(config: SlidingWindow) -> Parameters:
    window = config.window_seconds
    return "sliding_window", [str(window)], {"limit": config.limit, "window_seconds": window}


def _cost_based(config: CostBudget) -> Parameters:
    settle = {"llm:usd": "usd", "llm:tokens": "tokens"}.get(config.cost.kind, "")
    return (
        "cost_based",
        [config.period, config.timezone, settle],
        {
            "budget": config.budget,
            "period": config.period,
            "timezone": config.timezone,
            "settle": settle,
        },
    )


def _llm(config: LlmBudget) -> Parameters:
    return (
        "token_bucket_llm",
        ["fine" if config.tokens_per_minute % MICRO else ""],  # the unit of its levels
        {
            "tpm": config.tokens_per_minute,
            "burst": config.burst_tokens,
            "tpd": config.tokens_per_day,
        },
    )


_PARAMETERS: dict[type, Callable[..., Parameters]] = {
    TokenBucket: _token_bucket,
    SlidingWindow: _sliding_window,
    CostBudget: _cost_based,
    LlmBudget: _llm,
}


def _figures(config: object) -> tuple[float, int, int]:
    """Return (limit, quota, window) of §8.2; a budget's window depends on the period."""
    match config:
        case TokenBucket():
            window = ceil(config.burst / (config.rate * MICRO))
            return as_number(config.burst), config.burst // MICRO, window
        case SlidingWindow():
            return as_number(config.limit), config.limit // MICRO, config.window_seconds
        case CostBudget():
            return as_number(config.budget), config.budget // MICRO, 0
        case LlmBudget():
            tpm = config.tokens_per_minute
            return as_number(tpm), floor(tpm / MICRO), 60
    raise TypeError(f"unknown algorithm {config!r}")


def _calendar(config: object) -> Calendar | None:
    if isinstance(config, CostBudget):
        return Calendar(config.period, config.timezone)
    return None


__all__ = ["Extractor", "Plan", "compile_bundle"]
