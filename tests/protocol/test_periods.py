"""Calendar periods (§5.5.3): worked examples, the awkward zones, and a slow model."""

from datetime import UTC, datetime, timedelta
from math import ceil
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.periods import DAY_US, SECOND_US, Calendar, bounds


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND_US


@pytest.mark.parametrize(
    ("period", "zone", "now", "start", "end"),
    [
        ("1m", "UTC", "2026-02-03T14:30:59", "2026-02-03T14:30:00", "2026-02-03T14:31:00"),
        ("5m", "UTC", "2026-02-03T14:34:59", "2026-02-03T14:30:00", "2026-02-03T14:35:00"),
        ("1h", "Asia/Kolkata", "2026-02-03T14:34:59", "2026-02-03T14:00:00", "2026-02-03T15:00:00"),
        ("1d", "UTC", "2026-02-03T00:00:00", "2026-02-03T00:00:00", "2026-02-04T00:00:00"),
        # 23 hours, and 25
        (
            "1d",
            "Europe/Berlin",
            "2026-03-29T10:00:00",
            "2026-03-28T23:00:00",
            "2026-03-29T22:00:00",
        ),
        (
            "1d",
            "America/New_York",
            "2026-11-01T09:00:00",
            "2026-11-01T04:00:00",
            "2026-11-02T05:00",
        ),
        ("7d", "UTC", "1970-01-05T00:00:00", "1970-01-05T00:00:00", "1970-01-12T00:00:00"),
        ("7d", "UTC", "1970-01-01T00:00:00", "1969-12-29T00:00:00", "1970-01-05T00:00:00"),
        ("7d", "Asia/Kolkata", "2026-02-01T18:30:00", "2026-02-01T18:30:00", "2026-02-08T18:30:00"),
        ("1mo", "UTC", "2024-02-29T23:59:59", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
        ("1mo", "UTC", "2025-12-31T23:59:59", "2025-12-01T00:00:00", "2026-01-01T00:00:00"),
        ("1mo", "Europe/Berlin", "2026-03-31T22:00", "2026-03-31T22:00", "2026-04-30T22:00"),
        # midnight does not exist: clocks jump from 00:00 to 01:00 (Santiago), the day starts there
        ("1d", "America/Santiago", "2026-09-06T12:00", "2026-09-06T04:00", "2026-09-07T03:00"),
        # the jump swallows midnight: 23:30 to 00:30 (Toronto, 1919-03-30)
        ("1d", "America/Toronto", "1919-03-31T12:00", "1919-03-31T04:30", "1919-04-01T04:00"),
        # midnight occurs twice: clocks go from 00:01 back to 23:01 (St. John's, 2010-11-07)
        ("1d", "America/St_Johns", "2010-11-07T12:00", "2010-11-07T02:30", "2010-11-08T03:30"),
        # ... and yesterday's second 23:30 belongs to the day that has begun
        ("1d", "America/St_Johns", "2010-11-07T03:00", "2010-11-07T02:30", "2010-11-08T03:30"),
        # Samoa had no 30 December 2011
        ("1d", "Pacific/Apia", "2011-12-30T09:59:59", "2011-12-29T10:00", "2011-12-30T10:00"),
        ("1d", "Pacific/Apia", "2011-12-30T10:00:00", "2011-12-30T10:00", "2011-12-31T10:00"),
    ],
)
def test_examples(period: str, zone: str, now: str, start: str, end: str) -> None:
    assert bounds(period, zone, us(now)) == (us(start), us(end))


@pytest.mark.parametrize(
    ("period", "zone", "at", "start", "end", "retry"),
    [
        # epoch seconds; the end where the specification's vectors state it
        ("5m", "UTC", 1770129299, 1770129000, None, 1),
        ("5m", "UTC", 1770129300, 1770129300, None, 300),
        ("1d", "UTC", 1770129000, 1770076800, None, 34200),
        ("1d", "UTC", 1770098400, 1770076800, None, 64800),
        ("7d", "UTC", 1770129000, 1769990400, None, 466200),
        ("7d", "UTC", 1769990399, 1769385600, None, 1),
        ("7d", "UTC", 1769990400, 1769990400, None, 604800),
        ("7d", "UTC", 345600, 345600, None, 604800),
        ("1m", "UTC", 1770129059.5, 1770129000, 1770129060, 1),
        ("1m", "UTC", 1770129060, 1770129060, 1770129120, 60),
        ("1m", "UTC", 1770129119, 1770129060, 1770129120, 1),
        ("1mo", "UTC", 1709164799, 1706745600, 1709251200, 86401),
        ("1mo", "UTC", 1709164800, 1706745600, 1709251200, 86400),
        ("1mo", "UTC", 1709251200, 1709251200, 1711929600, 2678400),
        ("1mo", "UTC", 1767225599, 1764547200, 1767225600, 1),
        ("1mo", "UTC", 1767225600, 1767225600, 1769904000, 2678400),
        ("1d", "Europe/Berlin", 1774738800, 1774738800, 1774821600, 82800),
        ("1d", "Europe/Berlin", 1774742399, 1774738800, 1774821600, 79201),
        ("1d", "Europe/Berlin", 1774821599, 1774738800, 1774821600, 1),
        ("1d", "Europe/Berlin", 1774821600, 1774821600, 1774908000, 86400),
        ("1d", "America/New_York", 1793505600, 1793505600, 1793595600, 90000),
        ("1d", "America/New_York", 1793591999, 1793505600, 1793595600, 3601),
        ("1d", "America/New_York", 1793595600, 1793595600, 1793682000, 86400),
        ("7d", "Asia/Kolkata", 1769970599, 1769365800, 1769970600, 1),
        ("7d", "Asia/Kolkata", 1769970600, 1769970600, 1770575400, 604800),
        ("1mo", "America/New_York", 1772341199, 1769922000, 1772341200, 1),
        ("1mo", "America/New_York", 1772341200, 1772341200, 1775016000, 2674800),
        ("1mo", "America/New_York", 1775000000, 1772341200, 1775016000, 16000),
    ],
)
def test_the_specification_s_vectors(  # noqa: PLR0913 - the columns of the table
    period: str, zone: str, at: float, start: int, end: int | None, retry: int
) -> None:
    now = int(at * SECOND_US)
    first, last = bounds(period, zone, now)
    assert first == start * SECOND_US
    assert end is None or last == end * SECOND_US
    assert max(1, ceil((last - now) / SECOND_US)) == retry


def test_a_microsecond_before_the_end_is_inside_and_the_end_is_not() -> None:
    start, end = bounds("1d", "UTC", us("2026-02-03T12:00:00"))
    assert bounds("1d", "UTC", end - 1) == (start, end)
    assert bounds("1d", "UTC", end) == (end, end + DAY_US)


def test_an_unknown_period_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown period"):
        bounds("2d", "UTC", 0)


ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # midnight jumps until 2019
    "America/Santiago",
    "America/Havana",
    "America/St_Johns",  # midnight twice until 2011
    "Asia/Beirut",
    "Asia/Amman",
    "Africa/Cairo",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # half an hour
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Antarctica/Troll",  # two hours
]
instants = st.integers(us("1990-01-01T00:00:00"), us("2037-12-01T00:00:00"))


def first_instant_by_walking(zone: ZoneInfo, day: datetime) -> int:
    """Walk from two days before in minutes: the first instant dated `day` or later."""
    second = int(day.replace(tzinfo=UTC).timestamp()) - 2 * 86_400
    while datetime.fromtimestamp(second, zone).date() < day.date():
        second += 60
    return second * SECOND_US


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ZONES), instants)
def test_days_agree_with_a_walk_minute_by_minute(name: str, now: int) -> None:
    start, end = bounds("1d", name, now)
    zone = ZoneInfo(name)
    assert start <= now < end
    # where midnight comes twice the walk meets the new date first, as the rule does
    day = datetime.fromtimestamp(start // SECOND_US, zone).replace(tzinfo=None)
    assert start == first_instant_by_walking(zone, day)
    assert end == first_instant_by_walking(zone, day.replace(hour=0, minute=0) + timedelta(days=1))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ZONES), st.sampled_from(["1m", "5m", "1h", "1d", "7d", "1mo"]), instants)
def test_periods_tile_time(name: str, period: str, now: int) -> None:
    start, end = bounds(period, name, now)
    assert start <= now < end
    assert bounds(period, name, start) == (start, end)
    assert bounds(period, name, end - 1) == (start, end)
    assert bounds(period, name, end)[0] == end
    assert bounds(period, name, start - 1)[1] == start


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(ZONES), st.lists(instants, max_size=8))
def test_a_calendar_answers_as_bounds_does(name: str, nows: list[int]) -> None:
    calendar = Calendar("1d", name)
    for now in nows:
        for at in (now, now + DAY_US, now - 1, now):
            assert calendar.at(at) == bounds("1d", name, at)


def test_a_calendar_shares_its_integers() -> None:
    calendar = Calendar("1mo", "Europe/Berlin")
    now = us("2026-02-03T12:00:00")
    assert calendar.at(now)[0] is calendar.at(now + DAY_US)[0]
