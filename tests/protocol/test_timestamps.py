from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.timestamps import parse


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59Z", -1),
        ("2024-02-29T00:00:00Z", 1709164800),
        ("2026-02-03T14:00:59Z", 1770127259),
        ("9999-12-31T23:59:59Z", 253402300799),
    ],
)
def test_strict_spelling_is_read(text: str, epoch: int) -> None:
    assert parse(text) == epoch


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-03 14:00:00Z",
        "2026-02-03t14:00:00z",
        "2026-02-03T14:00:00",
        "2026-02-03T14:00:00+00:00",
        "2026-02-03T14:00:00.5Z",
        "2026-2-3T14:00:00Z",
        "2026-02-30T14:00:00Z",
        "2023-02-29T00:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-00-01T12:00:00Z",
        "2026-02-03T24:00:00Z",
        "2026-02-03T14:60:00Z",
        "2026-02-03T14:00:60Z",
        "2026-02-03T14:00:61Z",
        "0000-01-01T00:00:00Z",
        "+026-02-03T14:00:00Z",
        "٢٠٢٦-02-03T14:00:00Z",
        " 2026-02-03T14:00:00Z",
        "2026-02-03T14:00:00Z\n",
        "20260203T140000Z",
        "",
        None,
        True,
        1770127200,
        ["2026-02-03T14:00:00Z"],
    ],
)
def test_everything_else_is_refused(text: object) -> None:
    assert parse(text) is None


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_second_survives_the_round_trip(moment: datetime) -> None:
    whole = moment.replace(microsecond=0)
    text = f"{whole.year:04}{whole:-%m-%dT%H:%M:%SZ}"
    assert parse(text) == (whole - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


@given(st.text())
def test_no_text_raises(text: str) -> None:
    assert parse(text) is None
