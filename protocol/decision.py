"""The verdict on one request, before any gateway's wording (behaviour §5.3, §8, §16.1)."""

from typing import Literal

import msgspec

Action = Literal["allow", "reject", "throttle"]


class Limit(msgspec.Struct, frozen=True, gc=False):
    """The limiter that RateLimit fields describe (§8.2). All integers; `reset` in seconds."""

    policy_id: str
    quota: int
    remaining: int
    window: int
    reset: int


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One verdict. Field names follow §16.1 where they are reported there.

    `limit` and `remaining` are exact figures of the tightest or refusing limiter; `fields` is the
    integer form for headers. `retry_after_base` is in seconds before jitter, `retry_after` after
    (0 = none). `delay_ms` is set on a throttle.
    """

    action: Action = "allow"
    status: int = 200
    reason: str = "all_rules_passed"
    policy_id: str | None = None
    rule_name: str | None = None
    route: str = "none"
    limit: float | None = None
    remaining: float | None = None
    fields: Limit | None = None
    retry_after_base: int = 0
    retry_after: int = 0
    delay_ms: int = 0
    warning: str = ""
    loop_count: int = 0
    mode: Literal["enforce", "shadow"] = "enforce"
    would_reject: bool = False
    original_reason: str = ""
    original_retry_after_base: int = 0
    reservation: str = ""
    reserved: int | None = None
    prompt: int | None = None
    remaining_tpm: int | None = None
    remaining_tpd: int | None = None
    remaining_tokens: int | None = None
    spend_rate: float | None = None
    degraded: str = ""
    matched: tuple[str, ...] = ()
