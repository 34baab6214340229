"""The top level of a bundle (§2.1)."""

from collections.abc import Iterator

from protocol.bundle import Bundle, KillSwitch, Policy
from protocol.validation.amounts import VERSION
from protocol.validation.fields import Fields
from protocol.validation.overrides import read_kill_switches, read_override, refuse_past
from protocol.validation.policies import read_policies
from protocol.validation.prices import read_model_prices
from protocol.validation.report import Findings, Report
from protocol.validation.tokens import read_jwt, warn_if_unverified
from protocol.validation.wording import show


def validate(document: object, *, now: float, strict: bool = False) -> Report:
    """Turn decoded JSON into a bundle, or list everything that is wrong with it.

    `now` is the time of loading in epoch seconds; `strict` makes unknown keys errors. The
    bundle's hash is left empty: it belongs to the text, not to the values. Never raises.
    """
    findings = Findings(strict)
    if isinstance(document, dict):
        return findings.report(_bundle(Fields(document, "$", "the bundle", findings), now))
    findings.error("$", f"a bundle must be a JSON object; got {show(document)}")
    return findings.report(None)


def _bundle(document: Fields, now: float) -> Bundle:
    version = int(document.number("bundle_version", VERSION))
    document.timestamp("issued_at")
    refuse_past(document, "expires_at", document.timestamp("expires_at"), now)
    # "$schema" is how editors are told of docs/schema/bundle.schema.json.
    document.names("defaults", "$schema")
    bundle = Bundle(
        version=version,
        policies=read_policies(document),
        kill_switches=read_kill_switches(document),
        global_shadow=read_override(document, "global_shadow", now),
        kill_switch_override=read_override(document, "kill_switch_override", now),
        jwt=read_jwt(document),
        model_prices=read_model_prices(document),
    )
    warn_if_unverified(document, set(_keys_in_use(bundle.policies, bundle.kill_switches)))
    document.close()
    return bundle


def _keys_in_use(policies: tuple[Policy, ...], switches: tuple[KillSwitch, ...]) -> Iterator[str]:
    for policy in policies:
        for rule in (*policy.rules, policy.fallback_limit):
            if rule is not None:
                yield from rule.limit_keys
                yield from (key for key, _ in rule.match)
    yield from (switch.scope_key for switch in switches)
