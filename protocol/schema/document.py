"""The whole schema (§2.1)."""

import json

from protocol.descriptors import FIXED_NAMES, NAMED_KINDS
from protocol.schema import blocks, limits, policies
from protocol.schema.parts import MOMENT, NAME, Schema, array_of, number, object_of, ref, told, when
from protocol.validation import amounts

_KEY = "|".join(
    [f"({'|'.join(NAMED_KINDS)}):{NAME}"]
    + [f"{kind}:({'|'.join(names)})" for kind, names in FIXED_NAMES.items()]
)


def bundle_schema() -> Schema:
    """Return the whole schema."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Fairvisor policy bundle",
        "description": "Policies, kill switches, token verification and prices (§2.1).",
        **object_of(
            {
                "$schema": told({}, "Where this schema is, for editors. No effect."),
                "bundle_version": told(
                    number(amounts.VERSION),
                    "Grows with every change: a reload takes only a greater version.",
                ),
                "issued_at": told(MOMENT, "When the bundle was made (UTC). Informational."),
                "expires_at": told(
                    MOMENT, "After this moment (UTC) the bundle is not loaded any more."
                ),
                "policies": told(array_of(ref("policy")), "The policies; they add up."),
                "kill_switches": told(
                    array_of(ref("killSwitch")), "Who is turned away at once; first match wins."
                ),
                "global_shadow": told(
                    ref("override"), "While on, every policy only records what it would do."
                ),
                "kill_switch_override": told(
                    ref("override"), "While on, kill switches are skipped."
                ),
                "jwt": told(ref("jwt"), "Verification of bearer tokens."),
                "jwt_keys": told(
                    array_of(ref("jwtKey"), minItems=1), "Another place for jwt.keys; not both."
                ),
                "model_prices": told(
                    {"type": "object", "additionalProperties": ref("modelPrice")},
                    "US dollars per million tokens by model; a `*` at the end of a name stands "
                    "for any text.",
                ),
                "defaults": told({}, "Free form, no effect."),
            },
            required=["bundle_version", "policies"],
            allOf=[
                when(
                    {"required": ["jwt_keys"]},
                    {"properties": {"jwt": {"not": {"required": ["keys"]}}}},
                    {"properties": {"jwt": {"required": ["keys"]}}},
                )
            ],
        ),
        "$defs": {
            "policy": policies.policy(),
            "selector": policies.selector(),
            "rule": {"$ref": "#/$defs/fallback", "required": ["name"]},
            "fallback": limits.rule(),
            "tokenBucket": limits.token_bucket(),
            "slidingWindow": limits.sliding_window(),
            "costBudget": limits.cost_budget(),
            "stage": limits.stage(),
            "llmBudget": limits.llm_budget(),
            "tokenSource": limits.token_source(),
            "streaming": limits.streaming(),
            "loopDetection": policies.loop_detection(),
            "circuitBreaker": policies.circuit_breaker(),
            "killSwitch": blocks.kill_switch(),
            "override": blocks.override(),
            "jwt": blocks.jwt(),
            "jwtKey": blocks.jwt_key(),
            "modelPrice": blocks.model_price(),
            "descriptorKey": {"type": "string", "pattern": f"^({_KEY})$"},
        },
    }


def text() -> str:
    """Return the schema as it is stored."""
    return json.dumps(bundle_schema(), indent=2, ensure_ascii=False) + "\n"
