"""The shapes of rules and algorithms (§2.4, §5.5, §5.6, §11.3)."""

from protocol import bundle
from protocol.schema.parts import (
    BOOLEAN,
    NAME,
    TEXT,
    Schema,
    array_of,
    enum,
    has,
    number,
    object_of,
    ref,
    told,
    when,
)
from protocol.validation import amounts

_COST = f"fixed|(header|query):{NAME}"


def rule() -> Schema:
    """Return the shape of a rule (§2.4) whose name may be missing."""
    by_algorithm = {
        "token_bucket": "tokenBucket",
        "sliding_window": "slidingWindow",
        "cost_based": "costBudget",
        "token_bucket_llm": "llmBudget",
    }
    return object_of(
        {
            "name": told(TEXT, "Unique in its policy; counters belong to it."),
            "limit_keys": told(
                array_of(ref("descriptorKey")),
                "Whose counter it is, for example `jwt:sub` or `ip:address`; empty: everybody's.",
            ),
            "algorithm": told({"enum": list(by_algorithm)}, "How the counter counts."),
            "algorithm_config": told({"type": "object"}, "The algorithm's settings."),
            "match": told(
                {
                    "type": "object",
                    "propertyNames": ref("descriptorKey"),
                    "additionalProperties": {"type": ["string", "number", "boolean"]},
                },
                "Descriptors that must equal these values for the rule to apply.",
            ),
            "on_missing": told(enum(bundle.OnMissing), "If the request lacks a limit key.", "skip"),
            "on_error": told(enum(bundle.OnError), "If the counter cannot be reached.", "allow"),
            "reject_status": told({"enum": [429, 503]}, "The status of this rule's rejects.", 429),
            "unknown_model": told(
                enum(bundle.UnknownModel), "If a model has no price.", "default_cost"
            ),
        },
        required=["limit_keys", "algorithm", "algorithm_config"],
        allOf=[
            when(
                has("algorithm", {"const": name}),
                {"properties": {"algorithm_config": ref(definition)}},
            )
            for name, definition in by_algorithm.items()
        ],
    )


def token_bucket() -> Schema:
    """Return the shape of a token bucket (§5.5.2)."""
    rate = number(amounts.POSITIVE_RATE)
    return object_of(
        {
            "tokens_per_second": told({}, "The rate at which the bucket refills."),
            "rps": told({}, "Another name of tokens_per_second."),
            "burst": told(
                number(amounts.POSITIVE), "What the bucket holds; at least a second's tokens."
            ),
            **_cost_fields("cost_source", _COST),
        },
        required=["burst"],
        allOf=[
            when(
                {"required": ["tokens_per_second"]},
                {"properties": {"tokens_per_second": rate}},
                {"required": ["rps"], "properties": {"rps": rate}},
            )
        ],
    )


def sliding_window() -> Schema:
    """Return the shape of a sliding window (§5.5.2)."""
    return object_of(
        {
            "limit": told(number(amounts.POSITIVE), "What a window holds."),
            "window_seconds": told(number(amounts.SPAN), "The length of the window."),
            **_cost_fields("cost_source", _COST),
        },
        required=["limit", "window_seconds"],
    )


def cost_budget() -> Schema:
    """Return the shape of a budget (§5.5.3)."""
    last: Schema = has("threshold_percent", {"const": 100}) | {"type": "object"}
    last["properties"]["action"] = {"const": "reject"}
    last["required"] = ["threshold_percent", "action"]
    return object_of(
        {
            "budget": told(number(amounts.POSITIVE), "What a period may cost."),
            "period": told(enum(bundle.Period), "How long the budget lasts."),
            "timezone": told(TEXT, "An IANA name; for periods of days and longer.", "UTC"),
            **_cost_fields("cost_key", f"{_COST}|llm:usd|llm:tokens"),
            "staged_actions": told(
                array_of(ref("stage"), minItems=1, contains=last),
                "What happens as the budget is used up; one of them rejects at 100.",
            ),
            **_estimate_fields(),
        },
        required=["budget", "period", "staged_actions"],
        allOf=[
            when(has("period", {"enum": ["1m", "5m", "1h"]}), {"not": {"required": ["timezone"]}})
        ],
    )


def stage() -> Schema:
    """Return the shape of a stage of a budget (§5.5.3)."""
    return object_of(
        {
            "threshold_percent": told(
                number(amounts.PERCENT), "From which use of the budget the action applies."
            ),
            "action": told(enum(bundle.StageAction), "What happens then."),
            "delay_ms": told({}, "For `throttle`: how long a request waits; at most 30000."),
        },
        required=["threshold_percent", "action"],
        allOf=[
            when(
                has("action", {"const": "throttle"}),
                {
                    "required": ["delay_ms"],
                    "properties": {"delay_ms": number(amounts.POSITIVE)},
                },
            )
        ],
    )


def llm_budget() -> Schema:
    """Return the shape of an LLM token limit (§5.6)."""
    positive = number(amounts.POSITIVE)
    return object_of(
        {
            "tokens_per_minute": told(positive, "The rate of the minute bucket."),
            "tokens_per_day": told(positive, "The budget of a UTC day; without it, none."),
            "burst_tokens": told(
                positive, "What the minute bucket holds; by default tokens_per_minute."
            ),
            "max_prompt_tokens": told(positive, "The longest prompt of one request."),
            "max_completion_tokens": told(positive, "The longest answer to one request."),
            "max_tokens_per_request": told(positive, "Prompt and answer of one request."),
            **_estimate_fields(),
            "streaming": told(ref("streaming"), "When streamed answers are cut."),
        },
        required=["tokens_per_minute"],
    )


def token_source() -> Schema:
    """Return the shape of `token_source` (§5.6)."""
    return object_of(
        {"estimator": told(enum(bundle.Estimator), "How prompts are counted.", "simple_word")}
    )


def streaming() -> Schema:
    """Return the shape of `streaming` (§11.3)."""
    closings = {"enum": ["graceful_close", "error_chunk"]}
    return object_of(
        {
            "enabled": told(BOOLEAN, "Whether streams are metered.", default=True),
            "enforce_mid_stream": told(BOOLEAN, "Whether streams are cut.", default=True),
            "include_partial_usage": told(
                BOOLEAN, "Whether a cut stream ends with its usage.", default=True
            ),
            "buffer_tokens": told(
                number(amounts.POSITIVE), "How many tokens pass between two checks.", 100
            ),
            "on_limit_exceeded": told(closings, "How a cut stream ends.", "graceful_close"),
        }
    )


def _cost_fields(field: str, pattern: str) -> dict[str, Schema]:
    positive = number(amounts.POSITIVE)
    return {
        field: told(
            {"type": "string", "pattern": f"^({pattern})$"}, "What a request costs.", "fixed"
        ),
        "fixed_cost": told(positive, "The cost of each request if it is fixed.", 1),
        "default_cost": told(positive, "The cost where the source gives no number above 0.", 1),
    }


def _estimate_fields() -> dict[str, Schema]:
    return {
        "default_max_completion": told(
            number(amounts.POSITIVE), "Completion tokens expected if the request names none.", 1000
        ),
        "token_source": told(ref("tokenSource"), "How prompts are counted."),
        "reservation": told(
            enum(bundle.Reservation),
            "What is reserved for an answer: all it may use, or what answers lately used.",
            "worst_case",
        ),
    }
