"""The reference's sections, in the order of a bundle."""

from collections.abc import Iterator

from protocol.descriptors import FIXED_NAMES, NAMED_KINDS
from protocol.reference.answers import DESCRIPTORS, HEADERS, REASONS
from protocol.reference.tables import fields, table
from protocol.schema import bundle_schema
from protocol.schema.parts import Schema

FIELD_HEADS = ("Field", "Type", "Default", "Bounds", "Meaning")

SECTIONS: tuple[tuple[str, str, str], ...] = (
    ("policy", "policy", "`$.policies[i]`. Policies add up; a request must pass them all."),
    ("spec", "spec", "`$.policies[i].spec`."),
    (
        "selector",
        "selector",
        (
            "`$.policies[i].spec.selector`. Either anchor suffices; both look at the path "
            "as sent and at its normal form (decoded once, dot segments and repeated "
            "slashes folded, without fragment and, where there are any, also without "
            "path parameters)."
        ),
    ),
    (
        "rule",
        "rule",
        (
            "`$.policies[i].spec.rules[j]`, and `fallback_limit`. Every rule whose `match` "
            "holds is charged; `fallback_limit` only if none holds."
        ),
    ),
    (
        "tokenBucket",
        "token_bucket",
        "`algorithm_config` of `token_bucket`. A new key starts full.",
    ),
    (
        "slidingWindow",
        "sliding_window",
        (
            "`algorithm_config` of `sliding_window`. The previous window counts with the "
            "part of it that still overlaps the last `window_seconds`."
        ),
    ),
    (
        "costBudget",
        "cost_based",
        (
            "`algorithm_config` of `cost_based`. `1m`, `5m` and `1h` are aligned to the "
            "epoch; `1d`, `7d` (from Monday) and `1mo` to the local calendar."
        ),
    ),
    ("stage", "stage", "One of `staged_actions`. The highest stage reached applies."),
    (
        "llmBudget",
        "token_bucket_llm",
        (
            "`algorithm_config` of `token_bucket_llm`. The estimate is reserved; "
            "settlement corrects it."
        ),
    ),
    ("tokenSource", "token_source", "How a prompt's tokens are estimated."),
    (
        "streaming",
        "streaming",
        "Mid-stream cut-off. It has an effect only where the daemon sees the answer.",
    ),
    ("loopDetection", "loop_detection", "`$.policies[i].spec.loop_detection`."),
    (
        "circuitBreaker",
        "circuit_breaker",
        (
            "`$.policies[i].spec.circuit_breaker`. A breaker per value of the first limit "
            "key of the first rule that has one; the cost is that of the policy's first "
            "rule."
        ),
    ),
    ("killSwitch", "kill switch", "`$.kill_switches[n]`. Checked before tokens and policies."),
    (
        "override",
        "override block",
        "`global_shadow` and `kill_switch_override`. An expired one is not loaded.",
    ),
    ("jwt", "jwt", "`$.jwt`. Without keys, claims are read without verification."),
    ("jwtKey", "key", "`$.jwt.keys[i]`."),
    ("modelPrice", "price", "`$.model_prices.<model>`. Exact names win, then the longest prefix."),
)
"""Definition, heading, and where it stands."""

_HEAD = """\
# Reference

Every field of a policy bundle, and everything that an answer can say.
This file is made from the code by `scripts/docs`; change it there.
For a way in, read [the policy guide](policy-guide.md); editors understand
[the JSON Schema](schema/bundle.schema.json).

Fields that are not listed are warnings, and errors with `fairvisor validate --strict`.
Amounts are exact: `0.1` is one tenth.
"""


def text() -> str:
    """Return the whole reference."""
    return "\n".join(_parts()).rstrip() + "\n"


def _parts() -> Iterator[str]:
    schema = bundle_schema()
    definitions: dict[str, Schema] = schema["$defs"]
    spec = definitions["policy"]["properties"]["spec"]
    rule = definitions["fallback"]
    rule = rule | {
        "properties": {"name": rule["properties"]["name"], **rule["properties"]},
        "required": [*rule["required"], "name"],
    }
    shapes = definitions | {"spec": spec, "rule": rule}
    yield _HEAD
    yield "## Bundle\n"
    yield table(FIELD_HEADS, fields("bundle", schema)) + "\n"
    for definition, heading, place in SECTIONS:
        yield f"### {heading}\n"
        yield place + "\n"
        yield table(FIELD_HEADS, fields(definition, shapes[definition])) + "\n"
    yield from _descriptors()
    yield from _answers()


def _descriptors() -> Iterator[str]:
    keys = [f"{kind}:<name>" for kind in NAMED_KINDS]
    keys += [f"{kind}:{name}" for kind, names in FIXED_NAMES.items() for name in names]
    yield "## Descriptor key\n"
    yield (
        "What `limit_keys`, `match` and `scope_key` name. `<name>` is of letters, digits, `_` and "
        "`-`. Values become text; an empty one counts as missing.\n"
    )
    yield table(("Key", "Value"), [(f"`{key}`", DESCRIPTORS[key]) for key in keys]) + "\n"


def _answers() -> Iterator[str]:
    yield "## Reasons\n"
    yield (
        "`X-Fairvisor-Reason` of rejects; `reason` in records, metrics and `fairvisor test`. "
        "`Retry-After` is this base, spread by caller: up to half as much again, or for "
        "`budget_exhausted` up to half less.\n"
    )
    yield (
        table(
            ("Reason", "Action", "Status", "`Retry-After` base, seconds", "Meaning"),
            [
                (f"`{each.name}`", each.action, each.status, each.retry, each.meaning)
                for each in REASONS
            ],
        )
        + "\n"
    )
    yield "## Response headers\n"
    rows = [(f"`{name}`", when, value) for name, when, value in HEADERS]
    yield table(("Header", "When", "Value"), rows)
