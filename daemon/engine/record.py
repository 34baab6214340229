"""Decision records and the events beside them, as JSON-able dictionaries (behaviour §19).

Nothing here is on the way of a decision that needs no record: what a record says and a decision
does not carry (which kill switch, which breaker, whose descriptors) is read again from the request.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from daemon.engine.context import Context
from daemon.engine.disclosure import MAX_PATH_CHARS, MAX_VALUE_CHARS, descriptors, shown
from daemon.engine.engine import Engine, active
from daemon.engine.evaluation import Evaluation, granted
from daemon.engine.extract import extractor
from daemon.engine.outcome import Outcome
from protocol.amounts import as_number
from protocol.bundle import MICRO, KillSwitch
from protocol.decision import Decision
from protocol.request import Request

Record = dict[str, object]

MAX_POLICIES = 64
_FINGERPRINT_BYTES = 4
_METHOD_CHARS = 32


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision and what it was made of.

    `now` in microseconds since the epoch; `engine` is None without a bundle, `evaluation` and
    `outcome` where no policy was evaluated.
    """

    decision: Decision
    request: Request
    now: int
    latency_us: int
    engine: Engine | None = None
    evaluation: Evaluation | None = None
    outcome: Outcome | None = None

    @property
    def context(self) -> Context | None:
        """The request as its policies saw it."""
        if self.evaluation is not None:
            return self.evaluation.context
        return self.engine.context(self.request, self.now) if self.engine else None


def decision_record(decided: Decided) -> Record:
    """Return the record of one decision; every field is always there, None where it says nothing.

    `time` is UTC with milliseconds. `cost` is what the deciding limiter was asked for, in its units
    (tokens, requests, dollars); `circuit_state` is that of the first breaker that was asked.
    """
    decision, request = decided.decision, decided.request
    engine, evaluation, now = decided.engine, decided.evaluation, decided.now
    context = decided.context
    bundle = engine.bundle if engine else None
    switch = _switch(decided, context)
    known = descriptors(evaluation) if evaluation else {}
    if switch is not None and engine is not None:
        known[switch.scope_key] = _scope_value(switch, engine)
    state, spend_rate = _breaker(evaluation)
    return {
        "time": timestamp(now),
        "event": "decision",
        "bundle_version": bundle.version if bundle else None,
        "bundle_hash": bundle.hash if bundle else None,
        "action": decision.action,
        "status": decision.status,
        "mode": decision.mode,
        "would_reject": decision.would_reject,
        "reason": decision.reason,
        "original_reason": decision.original_reason or None,
        "policy_id": _cut(decision.policy_id),
        "rule_name": _cut(decision.rule_name),
        "matched_policies": [each[:MAX_VALUE_CHARS] for each in decision.matched[:MAX_POLICIES]],
        "descriptors": known,
        "client_ip": context.address if context else request.peer or None,
        "method": request.method[:_METHOD_CHARS],
        "path": request.path[:MAX_PATH_CHARS],
        "latency_us": decided.latency_us,
        "cost": _cost(decided),
        "reserved": decision.reserved,
        "limit": decision.limit,
        "remaining": decision.remaining,
        "retry_after": decision.retry_after or None,
        "delay_ms": decision.delay_ms or None,
        "kill_switch_scope": f"{switch.scope_key}={known[switch.scope_key]}" if switch else None,
        "kill_switch_reason": _cut(switch.reason) if switch else None,
        "loop_count": decision.loop_count or None,
        "fingerprint": _fingerprint(evaluation),
        "circuit_state": state,
        "spend_rate": spend_rate,
        "global_shadow": bundle is not None and active(bundle.global_shadow, now),
        "kill_switch_override": bundle is not None and active(bundle.kill_switch_override, now),
        "degraded": decision.degraded or None,
    }


def tripped_records(decided: Decided) -> list[Record]:
    """Return a `circuit_breaker_tripped` event for each breaker with `alert` that this opened."""
    outcome, engine, evaluation = decided.outcome, decided.engine, decided.evaluation
    if outcome is None or engine is None or evaluation is None:
        return []
    return [
        {
            "time": timestamp(decided.now),
            "event": "circuit_breaker_tripped",
            "bundle_version": engine.bundle.version,
            "policy_id": _cut(check.policy_id),
            "mode": "shadow" if check.shadow else "enforce",
            "scope": _breaker_scope(engine, check.policy_id, evaluation.context),
            "spend_rate": _breaker(evaluation, check.policy_id)[1],
            "threshold": as_number(check.breaker.threshold),
            "auto_reset_after_minutes": float(check.breaker.auto_reset_minutes),
        }
        for check in outcome.tripped
        if check.breaker is not None and check.breaker.alert
    ]


def timestamp(now: int) -> str:
    """Return microseconds since the epoch as ISO 8601 in UTC with milliseconds."""
    return f"{_second(now // MICRO)}.{now % MICRO // 1000:03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def switch_scope(switch: KillSwitch, secret: bytes) -> str:
    """Return a kill switch's scope as it may be shown."""
    return f"{switch.scope_key}={shown(switch.scope_key, switch.scope_value, secret)}"


def _switch(decided: Decided, context: Context | None) -> KillSwitch | None:
    if decided.decision.reason != "kill_switch_active" or decided.engine is None or context is None:
        return None
    return decided.engine.kill_switch(context)


def _scope_value(switch: KillSwitch, engine: Engine) -> str:
    return shown(switch.scope_key, switch.scope_value, engine.sources.jitter_key)


def _cost(decided: Decided) -> float | None:
    evaluation, outcome = decided.evaluation, decided.outcome
    if evaluation is None or outcome is None:
        return None
    index = outcome.refused_at
    if index is None:
        named = outcome.tightest[0] if outcome.tightest else None
        index = evaluation.checks.index(named) if named in evaluation.checks else None
    if index is None or index in evaluation.refusals or evaluation.checks[index].kind == "loop":
        return None
    cost = evaluation.costs[index]
    amount = cost[0] if isinstance(cost, list) else cost
    if not isinstance(amount, int):
        return None
    return amount if evaluation.checks[index].kind == "token_bucket_llm" else as_number(amount)


def _breaker(
    evaluation: Evaluation | None, policy_id: str | None = None
) -> tuple[str | None, float | None]:
    """Return the state and spend rate (units a minute) of the first breaker, or of a policy's."""
    if evaluation is None:
        return None, None
    for index, check in enumerate(evaluation.checks):
        if check.kind != "breaker" or policy_id not in (None, check.policy_id):
            continue
        verdict = evaluation.verdict(index)
        if verdict is not None:
            rate = verdict if isinstance(verdict, int) else verdict[2]
            state = "closed" if granted(verdict) else "open"
            return state, None if rate is None else as_number(rate)
    return None, None


def _breaker_scope(engine: Engine, policy_id: str, context: Context) -> str | None:
    for policy in engine.bundle.policies:
        keys = [rule.limit_keys[0] for rule in policy.rules if rule.limit_keys]
        if policy.id == policy_id and keys:
            value = extractor(keys[0])(context) or ""
            return f"{keys[0]}={shown(keys[0], value, engine.sources.jitter_key)}"
    return None


def _fingerprint(evaluation: Evaluation | None) -> str | None:
    """Return a display id of the request: the head of the first loop fingerprint (§5.7)."""
    if evaluation is not None:
        for check, key in zip(evaluation.checks, evaluation.keys, strict=True):
            if check.kind == "loop" and isinstance(key, bytes):
                return key[:_FINGERPRINT_BYTES].hex()
    return None


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:MAX_VALUE_CHARS]
