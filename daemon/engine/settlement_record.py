"""What a settlement leaves behind in the records (behaviour §19): `settlement` events."""

from collections.abc import Sequence
from typing import Any

from daemon.engine.checks import Check
from daemon.engine.disclosure import MAX_VALUE_CHARS
from daemon.engine.engine import Engine
from daemon.engine.record import MAX_POLICIES, Record, timestamp
from protocol.amounts import as_number
from protocol.bundle import LlmBudget
from protocol.decision import Decision
from protocol.usage import Usage


def settlement_record(  # noqa: PLR0913 - what the record is made of
    engine: Engine,
    now: int,
    entries: Sequence[Sequence[Any]],
    usage: Usage | None,
    outcome: str,
    why: str = "",
) -> Record:
    """Return the `settlement` event of one exchange; `now` in microseconds since the epoch.

    `entries` are [number, identity, reserved, actual] by rule. `reserved` and `actual` are the
    tokens of the first rule that counts tokens, `cost` the dollars of the first that counts money;
    `rules` has them all. `why` says what kept the usage from being known: then the estimate stands.
    """
    rules = [
        _rule(check, reserved, actual)
        for _number, identity, reserved, actual in entries
        if (check := engine.checks.get(identity)) is not None
    ]
    tokens = next((rule for rule in rules if rule["unit"] == "tokens"), {})
    money = next((rule for rule in rules if rule["unit"] == "usd"), {})
    first = rules[0] if rules else {}
    return {
        "time": timestamp(now),
        "event": "settlement",
        "bundle_version": engine.bundle.version,
        "outcome": outcome,
        "policy_id": first.get("policy_id"),
        "rule_name": first.get("rule_name"),
        "reserved": tokens.get("reserved"),
        "actual": tokens.get("actual"),
        "cost": money.get("actual"),
        "prompt_tokens": usage.prompt if usage else None,
        "completion_tokens": usage.completion if usage else None,
        "cost_source_fallback": bool(why),
        "why": why or None,
        "rules": rules[:MAX_POLICIES],
    }


def truncation_record(engine: Engine, now: int, decision: Decision, counted: int) -> Record:
    """Return the `stream_truncated` event of a stream cut at so many counted tokens (§11.3)."""
    return {
        "time": timestamp(now),
        "event": "stream_truncated",
        "bundle_version": engine.bundle.version,
        "reason": "completion_tokens_exceeded",
        "policy_id": decision.policy_id and decision.policy_id[:MAX_VALUE_CHARS],
        "rule_name": decision.rule_name and decision.rule_name[:MAX_VALUE_CHARS],
        "matched_policies": [each[:MAX_VALUE_CHARS] for each in decision.matched[:MAX_POLICIES]],
        "counted": counted,
    }


def _rule(check: Check, reserved: int, actual: int) -> dict[str, object]:
    llm = check.rule is not None and isinstance(check.rule.algorithm, LlmBudget)
    return {
        "policy_id": check.policy_id[:MAX_VALUE_CHARS],
        "rule_name": check.name[:MAX_VALUE_CHARS] if check.name else None,
        "shadow": check.shadow,
        "unit": "usd" if check.dollars else "tokens",
        "reserved": reserved if llm else as_number(reserved),
        "actual": actual if llm else as_number(actual),
    }
