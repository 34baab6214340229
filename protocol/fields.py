"""Response header fields of a decision (behaviour §8; IETF httpapi ratelimit-headers draft 10).

Pure text rendering; field names and order are fixed here for every gateway.
"""

from functools import lru_cache
from urllib.parse import quote

from protocol.decision import Decision, Limit

_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


@lru_cache(maxsize=4096)
def structured_string(text: str) -> str:
    r"""Return `text` as an RFC 9651 String: quoted, with `"` and `\` escaped.

    Characters outside printable ASCII (and "%", so that it stays reversible) are percent-encoded.
    """
    safe = quote(text, safe=_PRINTABLE, errors="surrogatepass")
    return '"' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'


def ratelimit_fields(limit: Limit) -> list[tuple[str, str]]:
    """Return the five RateLimit fields of one limiter (§8.2)."""
    name = structured_string(limit.policy_id)
    return [
        ("RateLimit-Limit", str(limit.quota)),
        ("RateLimit-Remaining", str(limit.remaining)),
        ("RateLimit-Reset", str(limit.reset)),
        ("RateLimit", f"{name};r={limit.remaining};t={limit.reset}"),
        ("RateLimit-Policy", f"{name};q={limit.quota};w={limit.window}"),
    ]


def decision_fields(decision: Decision) -> list[tuple[str, str]]:
    """Return every header field that a client of the decision may see (§8.1)."""
    fields = ratelimit_fields(decision.fields) if decision.fields else []
    if decision.action == "reject":
        if decision.status == 401:  # noqa: PLR2004 - §8.1
            fields.append(("WWW-Authenticate", 'Bearer error="invalid_token"'))
        else:
            fields.append(("Retry-After", str(max(1, decision.retry_after))))
        fields.append(("X-Fairvisor-Reason", decision.reason))
        return fields
    if decision.warning:
        fields.append(("X-Fairvisor-Warning", decision.warning))
    if decision.loop_count:
        fields.append(("X-Fairvisor-Loop-Count", str(decision.loop_count)))
    if decision.reservation:
        fields.append(("X-Fairvisor-Reservation", decision.reservation))
    return fields
