"""Sums over a replay that help to choose limits: by rule, who was refused and what was left."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from daemon.engine.checks import Check
from daemon.engine.engine import Finished
from daemon.engine.evaluation import Evaluation, granted
from daemon.engine.limits import gauges
from protocol.operations import Key

_CREDENTIAL = re.compile(r"auth|cookie|key|secret|token", re.IGNORECASE)
_SHOWN_OF_CREDENTIAL = 4


@dataclass(slots=True)
class KeyFigures:
    """One counter of a rule: whose it is, how often it was asked, how often it refused."""

    values: dict[str, str]
    requests: int = 0
    rejected: int = 0


@dataclass(slots=True)
class RuleFigures:
    """One limiter of a policy. `lowest` is the smallest (share, remaining, limit) that it left."""

    policy_id: str
    rule_name: str
    shadow: bool
    requests: int = 0
    rejected: int = 0
    lowest: tuple[float, float, float] | None = None
    keys: dict[Key, KeyFigures] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        busiest = max(self.keys.values(), key=lambda each: each.requests, default=None)
        lowest = self.lowest
        return {
            "policy_id": self.policy_id,
            "rule_name": self.rule_name,
            "mode": "shadow" if self.shadow else "enforce",
            "requests": self.requests,
            "rejected": self.rejected,
            "rejected_percent": round(100 * self.rejected / self.requests, 2),
            "keys": len(self.keys),
            "keys_rejected": sum(1 for each in self.keys.values() if each.rejected),
            "lowest_remaining": lowest[1] if lowest else None,
            "limit": lowest[2] if lowest else None,
            "busiest": {
                "key": busiest.values,
                "requests": busiest.requests,
                "rejected": busiest.rejected,
            }
            if busiest
            else None,
        }


class Figures:
    """Counts of a whole replay: by action, and by rule in order of first use."""

    def __init__(self) -> None:
        self.actions = {"allow": 0, "reject": 0, "throttle": 0}
        self.would_reject = 0
        self._rules: dict[tuple[str, str, bool], RuleFigures] = {}

    def add(self, finished: Finished, evaluation: Evaluation | None) -> None:
        """Count one request."""
        decision = finished.decision
        self.actions[decision.action] += 1
        self.would_reject += decision.would_reject
        if evaluation is None or finished.outcome is None:
            return
        for index, passed in _reached(evaluation, finished.outcome.refused_at):
            self._count(evaluation, index, passed=passed)

    def summary(self) -> dict[str, int]:
        """Return the summary of §16.1."""
        return {"total": sum(self.actions.values()), **self.actions}

    def by_rule(self) -> list[dict[str, Any]]:
        """Return every limiter's figures, in order of first use."""
        return [rule.document() for rule in self._rules.values()]

    def _rule(self, check: Check) -> RuleFigures:
        name = check.name or _OWN_NAMES.get(check.kind, check.kind)
        place = (check.policy_id, name, check.shadow)
        rule = self._rules.get(place)
        if rule is None:
            rule = self._rules[place] = RuleFigures(check.policy_id, name, check.shadow)
        return rule

    def _count(self, evaluation: Evaluation, index: int, *, passed: bool) -> None:
        check = evaluation.checks[index]
        rule = self._rule(check)
        rule.requests += 1
        rule.rejected += not passed
        if index not in evaluation.refusals:
            key = evaluation.keys[index]
            figures = rule.keys.get(key)
            if figures is None:
                figures = rule.keys[key] = KeyFigures(_values(check, evaluation))
            figures.requests += 1
            figures.rejected += not passed
        verdict = evaluation.verdict(index)
        if check.rule is None or verdict is None or not passed:
            return  # what is left after a refusal is what was left before it: only grants tell
        for gauge in gauges(check, verdict):
            lowest = (gauge.remaining / gauge.limit, gauge.remaining, gauge.limit)
            if rule.lowest is None or lowest < rule.lowest:
                rule.lowest = lowest


def _reached(evaluation: Evaluation, refused_at: int | None) -> Iterator[tuple[int, bool]]:
    """Yield (index, whether it granted) of every check that evaluation came to (§5.1, §5.9)."""
    stopped: set[int] = set()
    for index, check in enumerate(evaluation.checks):
        if refused_at is not None and index > refused_at:
            return
        verdict = evaluation.verdict(index)
        if verdict is None or check.segment in stopped:
            continue
        passed = granted(verdict)
        if not passed:
            stopped.add(check.segment)
        yield index, passed


_OWN_NAMES = {"loop": "loop_detection", "breaker": "circuit_breaker"}


def _values(check: Check, evaluation: Evaluation) -> dict[str, str]:
    """Return a counter's limit keys and values; of credentials only how they begin."""
    names = check.rule.limit_keys if check.rule else ()
    values: dict[str, str] = {}
    for name, extract in zip(names, check.extract, strict=False):
        value = extract(evaluation.context) or ""
        if name.startswith(("header:", "query:")) and _CREDENTIAL.search(name):
            value = value[:_SHOWN_OF_CREDENTIAL] + "…"
        values[name] = value
    return values
