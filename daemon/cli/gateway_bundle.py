"""What a gateway's configuration takes from the bundle of its daemon."""

from collections.abc import Iterator
from fractions import Fraction
from math import ceil

from daemon.cli import files
from daemon.cli.exits import Failure
from daemon.settings import Settings
from protocol.bundle import Bundle, CostBudget, LlmBudget, Policy, Rule
from protocol.bundle_text import load
from protocol.descriptors import parse_key

LONGEST_DELAY_MS = 30_000
"""No throttle waits longer (§5.4)."""
USUAL_HEADERS = ("authorization", "user-agent", "x-api-key")
"""What is told where no bundle says what counts."""
_HITS = "hits-addend"


def read_bundle(settings: Settings) -> Bundle | None:
    """Return the bundle of `FAIRVISOR_CONFIG_FILE`, None if that is not set.

    Raises:
        Failure: it cannot be read, or is not valid.
    """
    if settings.config_file is None:
        return None
    text = files.read(settings.config_file, files.MAX_BUNDLE_BYTES)
    bundle = load(text, now=0.0, signing_key=files.signing_key()).bundle
    if bundle is None:
        raise Failure(
            f"{settings.config_file}: not a valid bundle (`fairvisor validate` says why); "
            "mend it, or unset FAIRVISOR_CONFIG_FILE and name what it decides, such as "
            "--longest-delay"
        )
    return bundle


def longest_delay(bundle: Bundle) -> int:
    """Return the milliseconds of the longest throttle that a bundle's policies know (§5.4)."""
    longest = Fraction(0)
    for policy in bundle.policies:
        if policy.loop_detection is not None and policy.loop_detection.action == "throttle":
            return LONGEST_DELAY_MS
        for rule in _rules(policy):
            if isinstance(rule.algorithm, CostBudget):
                delays = [each.delay_ms for each in rule.algorithm.stages]
                longest = max(longest, *delays, Fraction(0))
    return min(ceil(longest), LONGEST_DELAY_MS)


def headers_read(bundle: Bundle | None) -> list[str]:
    """Return the request headers that a bundle's limits depend on, in order of their names.

    What only a gateway may say, such as the country, is not among them.
    """
    if bundle is None:
        return list(USUAL_HEADERS)
    names = set()
    if bundle.jwt.required:
        names.add("authorization")
    for key in _keys(bundle):
        descriptor = parse_key(key)
        if descriptor is None:
            continue
        if descriptor.kind == "header":
            names.add(descriptor.name)
        elif descriptor.kind == "jwt":
            names.add("authorization")
        elif descriptor.kind == "ua":
            names.add("user-agent")
    return sorted(names - {_HITS})


def _keys(bundle: Bundle) -> Iterator[str]:
    for switch in bundle.kill_switches:
        yield switch.scope_key
    for policy in bundle.policies:
        for rule in _rules(policy):
            yield from rule.limit_keys
            yield from (key for key, _ in rule.match)
            if not isinstance(rule.algorithm, LlmBudget) and rule.algorithm.cost.kind == "header":
                yield f"header:{rule.algorithm.cost.name}"


def _rules(policy: Policy) -> list[Rule]:
    return [*policy.rules, *([policy.fallback_limit] if policy.fallback_limit else [])]
