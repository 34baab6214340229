"""The list of policies (§2.3)."""

from typing import get_args

from protocol.bundle import Mode, Policy, Rule, Selector
from protocol.validation.fields import Fields, open_item
from protocol.validation.report import item
from protocol.validation.rules import read_rule
from protocol.validation.safeguards import read_circuit_breaker, read_loop_detection
from protocol.validation.selectors import read_selector
from protocol.validation.wording import show

_MODES: tuple[Mode, ...] = get_args(Mode)
_FALLBACK = "fallback_limit"


def read_policies(document: Fields) -> tuple[Policy, ...]:
    """Read every policy that has a spec; in id order (byte order)."""
    policies = []
    first_use: dict[str, int] = {}
    values = document.array("policies", "an array of policies (it may be empty)")
    for index in range(len(values)):
        place = document.at("policies")
        fields = open_item(values, index, place, "a policy", document.findings)
        if fields is None:
            continue
        policy_id = fields.text("id")
        if fields.sound("id"):
            first = first_use.setdefault(policy_id, index)
            if first != index:
                fields.error(
                    "id",
                    f"duplicate policy id {show(policy_id)}: {item(place, first)} has it too; "
                    "counters belong to an id, so each policy needs its own",
                )
        spec = fields.section("spec", required=True)
        fields.close()
        if spec is not None:
            policies.append(_policy(policy_id, spec))
    return tuple(sorted(policies, key=lambda policy: policy.id.encode()))


def _policy(policy_id: str, spec: Fields) -> Policy:
    selector = spec.section("selector", required=True)
    names: dict[str, str] = {}
    policy = Policy(
        id=policy_id,
        selector=Selector() if selector is None else read_selector(selector),
        mode=spec.choice("mode", _MODES, default="enforce"),
        rules=_rules(spec, names),
        fallback_limit=_fallback(spec, names),
        loop_detection=read_loop_detection(spec),
        circuit_breaker=read_circuit_breaker(spec),
    )
    _warn_if_idle(policy, spec)
    spec.close()
    return policy


def _rules(spec: Fields, names: dict[str, str]) -> tuple[Rule, ...]:
    rules = []
    values = spec.array("rules", "an array of rules (it may be empty)")
    for index in range(len(values)):
        fields = open_item(values, index, spec.at("rules"), "a rule", spec.findings)
        if fields is not None:
            rule = read_rule(fields)
            _claim_name(fields, rule.name, names)
            rules.append(rule)
    return tuple(rules)


def _fallback(spec: Fields, names: dict[str, str]) -> Rule | None:
    fields = spec.section(_FALLBACK)
    if fields is None:
        return None
    rule = read_rule(fields, default_name=_FALLBACK)
    _claim_name(fields, rule.name, names)
    return rule


def _claim_name(fields: Fields, name: str, names: dict[str, str]) -> None:
    if not fields.sound("name"):
        return
    first = names.setdefault(name, fields.path)
    if first != fields.path:
        fields.error(
            "name",
            f"duplicate rule name {show(name)}: {first} has it too; "
            "counters belong to a name, so each rule of a policy needs its own",
        )


def _warn_if_idle(policy: Policy, spec: Fields) -> None:
    parts = ("rules", _FALLBACK, "loop_detection", "circuit_breaker")
    active = policy.rules or policy.fallback_limit or policy.loop_detection
    if active or policy.circuit_breaker or not spec.sound(*parts) or spec.raw("rules"):
        return
    spec.findings.warning(
        spec.path,
        "this policy does nothing: it has no rules, fallback_limit, "
        "enabled loop_detection or enabled circuit_breaker",
    )
