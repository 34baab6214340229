"""Where the calendar periods of budgets start and end (behaviour §5.5.3).

Rules
- `1m`, `5m`, `1h` are multiples of their length since the epoch; the zone plays no part.
- A local day starts at the first instant whose local date is that day or later. That is local
  midnight where it exists, its first pass where clocks go back over it, and the moment of the jump
  where clocks go forward over it. A day that a zone left out has length zero and is never returned.
- `7d` starts with the local Monday, `1mo` with the first day of the local month.
- Periods follow each other without gap or overlap. Where clocks go back over midnight, the minutes
  that carry yesterday's date for a second time belong to the day that has already begun.

All instants are integer microseconds since the epoch; zone offsets change at whole seconds only.
"""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US

_FIXED_US = {"1m": 60 * SECOND_US, "5m": 300 * SECOND_US, "1h": 3600 * SECOND_US}
_DAY = timedelta(days=1)
_WEEK = timedelta(days=7)


def bounds(period: str, timezone: str, now_us: int) -> tuple[int, int]:
    """Return the period that holds an instant, as (start, end) with the end outside.

    `period` is one of `1m`, `5m`, `1h`, `1d`, `7d`, `1mo`; `timezone` an IANA name; everything in
    microseconds since the epoch.

    Raises:
        ValueError: for an unknown period.
        zoneinfo.ZoneInfoNotFoundError: for an unknown zone.
    """
    length = _FIXED_US.get(period)
    if length is not None:
        start = now_us - now_us % length
        return start, start + length
    zone = ZoneInfo(timezone)
    local = datetime.fromtimestamp(now_us // SECOND_US, zone).date()
    first = _first_day(period, local)
    following = _next_first_day(period, first)
    start, end = _day_start(first, zone), _day_start(following, zone)
    if now_us >= end:
        following = _next_first_day(period, following)
        start, end = end, _day_start(following, zone)
    return start, end


class Calendar:
    """Answer `bounds` for one period and zone, computing only when `now` leaves the last answer.

    Equal instants give equal answers; instants of one period get the very same two integers, so
    that a million counters share them.
    """

    __slots__ = ("_bounds", "period", "timezone")

    def __init__(self, period: str, timezone: str = "UTC") -> None:
        self.period = period
        self.timezone = timezone
        self._bounds = (0, 0)

    def at(self, now_us: int) -> tuple[int, int]:
        """Return (start, end) of the period that holds an instant, in epoch microseconds."""
        held = self._bounds
        if held[0] <= now_us < held[1]:
            return held
        self._bounds = held = bounds(self.period, self.timezone, now_us)
        return held


def _first_day(period: str, day: date) -> date:
    if period == "1d":
        return day
    if period == "7d":
        return day - timedelta(days=day.weekday())
    if period == "1mo":
        return day.replace(day=1)
    raise ValueError(f"unknown period {period!r}")


def _next_first_day(period: str, first: date) -> date:
    if period == "1d":
        return first + _DAY
    if period == "7d":
        return first + _WEEK
    return (first.replace(day=28) + timedelta(days=4)).replace(day=1)


def _day_start(day: date, zone: ZoneInfo) -> int:
    """Return the first instant whose date in the zone is `day` or later, in microseconds.

    `fold=0` reads a midnight that occurs twice as its first pass. One that does not occur is read
    with the offset before the jump (`fold=0`) or after it (`fold=1`): the jump lies between the
    two, and is found by bisection (PEP 495, "Invalid ... local times").
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    late = int(midnight.timestamp())
    if datetime.fromtimestamp(late, UTC).astimezone(zone).replace(tzinfo=None) == midnight.replace(
        tzinfo=None
    ):
        return late * SECOND_US
    early = int(midnight.replace(fold=1).timestamp()) - 1
    while late - early > 1:
        middle = (early + late) // 2
        if datetime.fromtimestamp(middle, zone).date() >= day:
            late = middle
        else:
            early = middle
    return late * SECOND_US
