"""The shapes of policies and what else they hold (§2.3, §3, §5.7, §5.8)."""

from protocol import bundle
from protocol.schema.parts import (
    BOOLEAN,
    PATH,
    TEXT,
    Schema,
    array_of,
    enum,
    number,
    object_of,
    ref,
    switchable,
    told,
)
from protocol.validation import amounts


def policy() -> Schema:
    """Return the shape of a policy (§2.3)."""
    spec = object_of(
        {
            "selector": told(ref("selector"), "Which requests the policy sees."),
            "mode": told(
                enum(bundle.Mode), "`shadow` records what the policy would do.", "enforce"
            ),
            "rules": told(array_of(ref("rule")), "The limits, in the order of evaluation."),
            "fallback_limit": told(
                ref("fallback"), "The rule for requests that satisfy no rule's `match`."
            ),
            "loop_detection": told(ref("loopDetection"), "Stops callers that repeat themselves."),
            "circuit_breaker": told(ref("circuitBreaker"), "Stops spending that runs away."),
        },
        required=["selector", "rules"],
    )
    return object_of(
        {
            "id": told(TEXT, "Unique; policies are evaluated in the byte order of their ids."),
            "spec": told(spec, "What the policy does."),
        },
        required=["id", "spec"],
    )


def selector() -> Schema:
    """Return the shape of a selector (§3)."""
    return object_of(
        {
            "pathExact": told(PATH, "The request's path, without query."),
            "pathPrefix": told(PATH, "The beginning of the path; `/v1` means `/v1/`."),
            "methods": told(
                array_of(TEXT, minItems=1), "Upper-case HTTP methods; without it, all."
            ),
            "hosts": told(
                array_of(TEXT, minItems=1), "Host names without wildcards; without it, any."
            ),
        },
        anyOf=[{"required": ["pathExact"]}, {"required": ["pathPrefix"]}],
    )


def loop_detection() -> Schema:
    """Return the shape of `loop_detection` (§5.7)."""
    settings = {
        "window_seconds": number(amounts.SPAN),
        "threshold_identical_requests": number(amounts.REPETITIONS),
        "action": enum(bundle.LoopAction),
        "similarity": {"const": "exact"},
    }
    return switchable(
        {
            "window_seconds": told({}, "For how long a request is remembered."),
            "threshold_identical_requests": told({}, "How many equal requests are a loop."),
            "action": told({}, "What happens then: reject, throttle or warn.", "reject"),
            "similarity": told({}, "What counts as equal; only `exact`.", "exact"),
        },
        settings,
        ["window_seconds", "threshold_identical_requests"],
    )


def circuit_breaker() -> Schema:
    """Return the shape of `circuit_breaker` (§5.8)."""
    settings = {
        "spend_rate_threshold_per_minute": number(amounts.POSITIVE),
        "action": {"const": "reject"},
        "auto_reset_after_minutes": number(amounts.NON_NEGATIVE_SPAN),
        "alert": BOOLEAN,
    }
    return switchable(
        {
            "spend_rate_threshold_per_minute": told({}, "The spending that opens the breaker."),
            "action": told({}, "What happens then; only `reject`.", "reject"),
            "auto_reset_after_minutes": told({}, "When it closes; 0: by hand only.", 0),
            "alert": told({}, "Whether opening it emits an event.", default=False),
        },
        settings,
        ["spend_rate_threshold_per_minute"],
    )
