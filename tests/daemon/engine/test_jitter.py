import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.engine.jitter import BUCKETS, bucket_label, jitter_identity, retry_after

KEY = b"k" * 16


@given(st.integers(0, 10**7), st.text(max_size=20), st.binary(max_size=64))
def test_the_general_range(base: int, identity: str, key: bytes) -> None:
    seconds = retry_after(base, "rate_limit_exceeded", "p", "r", identity, key)
    assert max(1, base) <= seconds <= max(1, -(-3 * base // 2))


@given(st.integers(0, 10**7), st.text(max_size=20), st.binary(max_size=64))
def test_the_range_of_budgets(base: int, identity: str, key: bytes) -> None:
    seconds = retry_after(base, "budget_exhausted", "p", "r", identity, key)
    assert max(1, -(-base // 2)) <= seconds <= max(1, base)


def test_identities_spread_over_the_whole_range() -> None:
    drawn = {retry_after(60, "loop_detected", "p", "r", f"user {n}", KEY) for n in range(2000)}
    assert drawn == set(range(61, 91))
    drawn = {retry_after(60, "budget_exhausted", "p", "r", f"user {n}", KEY) for n in range(2000)}
    assert drawn == set(range(31, 61))


def test_the_same_refusal_gives_the_same_figure() -> None:
    assert {retry_after(3600, "r", "p", "n", "u", KEY) for _ in range(5)} == {
        retry_after(3600, "r", "p", "n", "u", KEY)
    }


def test_every_part_and_the_key_matter() -> None:
    base = 10**9
    variants = [
        retry_after(base, "r", "p", "n", "u", KEY),
        retry_after(base + 1, "r", "p", "n", "u", KEY),
        retry_after(base, "r2", "p", "n", "u", KEY),
        retry_after(base, "r", "p2", "n", "u", KEY),
        retry_after(base, "r", "p", "n2", "u", KEY),
        retry_after(base, "r", "p", "n", "u2", KEY),
        retry_after(base, "r", "p", "n", "u", b"other"),
        retry_after(base, "r", "pn", "", "u", KEY),
        retry_after(base, "r", "", "pn", "u", KEY),
    ]
    assert len(set(variants)) == len(variants)


@pytest.mark.parametrize(
    ("claims", "address", "identity"),
    [
        ({"sub": "s", "user_id": "i", "uid": "u"}, "a", "subject s"),
        ({"sub": "", "user_id": 7}, "a", "subject 7"),
        ({"sub": None, "uid": "u"}, "a", "subject u"),
        ({"sub": ["s"]}, "a", "address a"),
        ({}, "a", "address a"),
        (None, "a", "address a"),
        (None, None, "path /x"),
    ],
)
def test_who_is_asked_to_wait(
    claims: dict[str, object] | None, address: str | None, identity: str
) -> None:
    assert jitter_identity(claims, address, "/x") == identity


@pytest.mark.parametrize(
    ("seconds", "label"),
    [
        (1, "le_1"),
        (2, "le_5"),
        (5, "le_5"),
        (10, "le_10"),
        (11, "le_30"),
        (60, "le_60"),
        (300, "le_300"),
        (900, "le_900"),
        (3600, "le_3600"),
        (3601, "gt_3600"),
        (10**9, "gt_3600"),
    ],
)
def test_buckets(seconds: int, label: str) -> None:
    assert bucket_label(seconds) == label
    assert label in BUCKETS
