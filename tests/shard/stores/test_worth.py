import pytest

from protocol.operations import Kind, RuleSpec
from shard.stores.worth import is_stored

S = 1_000_000


@pytest.mark.parametrize(
    ("kind", "params", "stored"),
    [
        ("token_bucket", {"rate_num": 1, "rate_den": 1, "burst": 10 * S}, False),
        ("token_bucket", {"rate_num": 1, "rate_den": 1, "burst": 11 * S}, True),
        ("token_bucket", {"rate_num": 1000, "rate_den": 1000, "burst": 10 * S}, False),
        ("token_bucket", {"rate_num": 10, "rate_den": 1000, "burst": S}, True),
        ("sliding_window", {"limit": S, "window_seconds": 5}, False),  # two windows count
        ("sliding_window", {"limit": S, "window_seconds": 6}, True),
        ("loop", {"window_seconds": 10, "threshold": 2, "reject": True}, False),
        ("loop", {"window_seconds": 11, "threshold": 2, "reject": True}, True),
        ("cost_based", {"budget": 1, "period": "1m", "timezone": "UTC"}, True),
        ("token_bucket_llm", {"tpm": S, "burst": S, "tpd": None}, True),
        ("breaker", {"threshold": 1, "auto_reset": 1}, True),
        ("refuse", {}, False),
    ],
)
def test_what_refills_within_ten_seconds_is_not_stored(
    kind: Kind, params: dict[str, int | str | bool | None], *, stored: bool
) -> None:
    assert is_stored(RuleSpec(kind, "x", 0, shadow=False, params=params)) is stored
