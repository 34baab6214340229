"""What a decision can say: descriptors, reasons and header fields (§4.3, §8.1, §23)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """One row of §23. `status` is that of the decision API; `retry` the base of `Retry-After`."""

    name: str
    action: str
    status: str
    retry: str
    meaning: str


OF_RULE = "429, or the rule's `reject_status`"

REASONS: tuple[Reason, ...] = (
    Reason("all_rules_passed", "allow", "200", "", "Every limiter had room."),
    Reason("no_matching_policy", "allow", "200", "", "No policy's selector matches the request."),
    Reason("budget_warn", "allow", "200", "", "A budget has reached a `warn` stage."),
    Reason("budget_throttle", "throttle", "200", "", "A budget has reached a `throttle` stage."),
    Reason(
        "loop_detected",
        "reject, throttle or allow",
        "429 or 200",
        "`window_seconds`",
        "Too many identical requests; what happens is the `action` of `loop_detection`.",
    ),
    Reason(
        "rate_limit_exceeded",
        "reject",
        OF_RULE,
        "until there is room",
        "A token bucket or a sliding window has no room.",
    ),
    Reason(
        "budget_exhausted",
        "reject",
        OF_RULE,
        "to the end of the period",
        "The request would overdraw its budget.",
    ),
    Reason(
        "tpm_exceeded", "reject", OF_RULE, "until there is room", "Tokens per minute are used up."
    ),
    Reason("tpd_exceeded", "reject", OF_RULE, "to midnight UTC", "Tokens of the day are used up."),
    Reason(
        "prompt_tokens_exceeded", "reject", OF_RULE, "1", "The prompt is over `max_prompt_tokens`."
    ),
    Reason(
        "max_tokens_per_request_exceeded",
        "reject",
        OF_RULE,
        "1",
        "Prompt and answer together are over `max_tokens_per_request`.",
    ),
    Reason(
        "descriptor_missing",
        "reject",
        OF_RULE,
        "1",
        "The request lacks a limit key of a rule with `on_missing: reject`.",
    ),
    Reason(
        "unknown_model",
        "reject",
        OF_RULE,
        "1",
        "The model has no price and the rule says `unknown_model: reject`.",
    ),
    Reason(
        "circuit_breaker_open",
        "reject",
        "429",
        "to the automatic reset; 60 without one",
        "Spending ran away and the breaker is open.",
    ),
    Reason("kill_switch_active", "reject", "429", "3600", "A kill switch names the caller."),
    Reason("invalid_token", "reject", "401", "none", "A valid token is required."),
    Reason("no_bundle_loaded", "reject", "503", "1", "There is no policy to decide by."),
    Reason(
        "counter_unavailable",
        "reject",
        "503",
        "1",
        "A shard did not answer in time and the rule says `on_error: reject`.",
    ),
    Reason(
        "service_unavailable",
        "reject",
        "503",
        "1",
        "The request could not be decided; the log says why.",
    ),
)

HEADERS: tuple[tuple[str, str, str], ...] = (
    (
        "RateLimit-Limit",
        "with the four below: on an allow that a limiter took part in, and on a reject by one",
        "what the tightest limiter holds when full (on a reject: the refusing one)",
    ),
    ("RateLimit-Remaining", "as above", "what is left, rounded down"),
    ("RateLimit-Reset", "as above", "seconds; never jittered"),
    ("RateLimit", "as above", '`"<policy id>";r=<remaining>;t=<reset>`'),
    ("RateLimit-Policy", "as above", '`"<policy id>";q=<limit>;w=<window in seconds>`'),
    (
        "Retry-After",
        "every reject with 429 or 503",
        "seconds, at least 1; spread by caller so that not all come back at once",
    ),
    (
        "X-Fairvisor-Reason",
        "every reject; in the proxy modes also a 502 or 504 of the daemon's own",
        "a reason of the table above; or `upstream_unreachable`, `upstream_timeout`",
    ),
    (
        "X-Fairvisor-Warning",
        "an allow or throttle with something to say",
        "`budget_warn`, `budget_throttle` or `loop_warn`",
    ),
    (
        "X-Fairvisor-Loop-Count",
        "with `loop_warn`",
        "identical requests in the window, this one included",
    ),
    (
        "X-Fairvisor-Delay-Ms",
        "a throttle, if the request said `X-Fairvisor-Prefer: delay-header`",
        "milliseconds that the caller should wait; without that header the answer itself waits",
    ),
    (
        "X-Fairvisor-Reservation",
        "an allow that reserved tokens or dollars",
        "the id to settle with",
    ),
    ("WWW-Authenticate", "every 401", '`Bearer error="invalid_token"`'),
)

DESCRIPTORS: dict[str, str] = {
    "jwt:<name>": "A top-level claim of the bearer token.",
    "header:<name>": "A request header; case does not matter, `-` and `_` are equal.",
    "query:<name>": "A parameter of the original query, percent-decoded; case matters.",
    "ip:address": "The client's address, found behind trusted proxies.",
    "ip:country": "`X-Country-Code` of a trusted peer, else `FAIRVISOR_GEOIP_FILE`.",
    "ip:asn": "`X-ASN` of a trusted peer.",
    "ip:type": "The kind of network: a table by `X-ASN`, else `X-ASN-Type`. One of `business`, "
    "`education_research`, `government_admin`, `hosting`, `isp`, `unrouted`, `unknown`.",
    "ip:tor": "`true` or `false`: `X-Tor-Exit` of a trusted peer, else "
    "`FAIRVISOR_TOR_EXITS_FILE`; missing without either.",
    "ua:bot": "`true` or `false` by the User-Agent; missing without one.",
    "ua:bot_category": "`search_engine`, `ai_crawler`, `ai_assistant_user`, `social_preview`, "
    "`monitoring_uptime`, `seo_research`, `archiver` or `other_bot`; missing for others.",
    "llm:model": "`model` of a JSON body, or the model in a generate-content path.",
    "llm:provider": "`FAIRVISOR_LLM_FORMAT`, else told by the path: `openai`, `anthropic`, "
    "`gemini`; missing for paths that are no LLM endpoint.",
    "llm:endpoint": "By the end of the path: `chat`, `responses`, `completions`, `embeddings`, "
    "`messages`, `generate_content`, else `other`.",
}
"""By key, as `protocol.descriptors` lists them; a test holds the two together."""
