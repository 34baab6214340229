import pytest

from protocol.decision import Decision, Limit
from protocol.fields import decision_fields, structured_string

LIMIT = Limit('a "b"', quota=10, remaining=3, window=60, reset=7)
SHOWN = {
    "RateLimit-Limit": "10",
    "RateLimit-Remaining": "3",
    "RateLimit-Reset": "7",
    "RateLimit": '"a \\"b\\"";r=3;t=7',
    "RateLimit-Policy": '"a \\"b\\"";q=10;w=60',
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", '"plain"'),
        ("", '""'),
        ('say "x"', '"say \\"x\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("ü", '"%C3%BC"'),
        ("100%", '"100%25"'),
        ("\r\nX: y", '"%0D%0AX: y"'),
        ("\ud800", '"%ED%A0%80"'),
    ],
)
def test_structured_string(text: str, shown: str) -> None:
    assert structured_string(text) == shown


@pytest.mark.parametrize(
    ("decision", "fields"),
    [
        (Decision(), {}),
        (Decision(fields=LIMIT), SHOWN),
        (
            Decision(warning="loop_warn", loop_count=4, reservation="id"),
            {
                "X-Fairvisor-Warning": "loop_warn",
                "X-Fairvisor-Loop-Count": "4",
                "X-Fairvisor-Reservation": "id",
            },
        ),
        (
            Decision(
                action="reject", status=429, reason="tpm_exceeded", retry_after=9, fields=LIMIT
            ),
            SHOWN | {"Retry-After": "9", "X-Fairvisor-Reason": "tpm_exceeded"},
        ),
        (
            Decision(action="reject", status=503, reason="counter_unavailable"),
            {"Retry-After": "1", "X-Fairvisor-Reason": "counter_unavailable"},
        ),
        (
            Decision(action="reject", status=401, reason="invalid_token", retry_after=5),
            {
                "WWW-Authenticate": 'Bearer error="invalid_token"',
                "X-Fairvisor-Reason": "invalid_token",
            },
        ),
        (
            Decision(
                action="reject", status=429, reason="x", warning="loop_warn", reservation="id"
            ),
            {"Retry-After": "1", "X-Fairvisor-Reason": "x"},
        ),
    ],
)
def test_decision_fields(decision: Decision, fields: dict[str, str]) -> None:
    assert dict(decision_fields(decision)) == fields
