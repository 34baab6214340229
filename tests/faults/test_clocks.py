"""Clocks that jump, and calendars that do: what is spent stays spent in its period (§5, §13.5)."""

import re
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.frames import DECIDE
from protocol.operations import RuleSpec
from shard.service import ShardService
from tests.e2e.conftest import Daemon
from tests.faults.stage import stage

S = 1_000_000
SHIM = Path(__file__).parent / "shim"
BERLIN = ZoneInfo("Europe/Berlin")
BUDGET = 5
KEYS = [f"key-{number}" for number in range(6)]


class Shard:
    """One budget and one window, asked at any time."""

    def __init__(self, period: str, timezone: str = "Europe/Berlin") -> None:
        self.service = ShardService(1 << 20, 3600 * S)
        params: dict[str, Any] = {"budget": BUDGET * S, "period": period, "timezone": timezone}
        window: dict[str, Any] = {"limit": BUDGET * S, "window_seconds": 60}
        self.service.install(
            1,
            [
                RuleSpec("cost_based", "b", 0, shadow=False, params=params),
                RuleSpec("sliding_window", "w", 1, shadow=False, params=window),
            ],
        )

    def spend(self, at: datetime, rule: int = 0) -> bool:
        reply: Any = self.service.answer([DECIDE, 1, int(at.timestamp() * S), [[rule, "k", S]]])
        return bool(reply[1][0] >= 0)

    def granted(self, at: datetime) -> int:
        """Spend until refused; return how often it was granted."""
        count = 0
        while self.spend(at):
            count += 1
            assert count <= BUDGET
        return count


@pytest.mark.parametrize(
    ("period", "times"),
    [
        # the night with 23 hours, and the one with 25: a day is a day
        ("1d", ["2026-03-28 12:00", "2026-03-29 00:00", "2026-03-30 00:00"]),
        ("1d", ["2026-10-24 23:59", "2026-10-25 00:00", "2026-10-26 00:00"]),
        ("1mo", ["2026-01-31 23:59", "2026-02-01 00:00", "2026-03-01 00:00", "2026-04-01 00:00"]),
        ("1mo", ["2028-02-29 23:59", "2028-03-01 00:00", "2028-12-31 23:59", "2029-01-01 00:00"]),
    ],
)
def test_every_period_has_its_budget_once(period: str, times: list[str]) -> None:
    shard = Shard(period)
    for text in times:
        at = datetime.fromisoformat(text).replace(tzinfo=BERLIN)
        assert shard.granted(at) == BUDGET, text
        assert shard.granted(at) == 0, text


def test_the_hour_that_comes_twice_is_one_day() -> None:
    shard = Shard("1d")
    first = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)
    assert shard.granted(first) == BUDGET
    assert shard.granted(first.replace(fold=1)) == 0
    assert not shard.spend(datetime(2026, 10, 25, 23, 59, tzinfo=BERLIN))


jumps = st.lists(
    st.one_of(
        st.integers(0, 100),  # on it goes
        st.sampled_from([3600, 86_400, 31 * 86_400, -5, -3600, -86_400, -40 * 86_400]),
    ),
    min_size=1,
    max_size=30,
)


@given(st.sampled_from(["1d", "7d", "1mo"]), jumps)
def test_a_clock_set_back_grants_nothing_anew(period: str, steps: list[int]) -> None:
    """Whatever the clock does, only to enter a period from an earlier one begins a budget."""
    shard = Shard(period, "UTC")
    now = 1_790_000_000
    current: tuple[int, ...] = ()
    entered = granted = 0
    for step in steps:
        now += step
        entered += _period(period, now) > current
        current = _period(period, now)
        granted += shard.granted(datetime.fromtimestamp(now, UTC))
        assert granted <= BUDGET * entered


def _period(period: str, seconds: int) -> tuple[int, ...]:
    at = datetime.fromtimestamp(seconds, UTC)
    match period:
        case "1d":
            return at.year, at.month, at.day
        case "7d":
            return at.isocalendar()[:2]
    return at.year, at.month


def test_windows_bear_any_clock() -> None:
    shard = Shard("1d", "UTC")
    for seconds in (1_790_000_000, 1_790_000_030, 0, 1_790_000_031, 4_000_000_000, 1_790_000_032):
        for _ in range(2 * BUDGET):
            shard.spend(datetime.fromtimestamp(seconds, UTC), rule=1)
    at = datetime.fromtimestamp(4_000_000_500, UTC)
    assert sum(shard.spend(at, rule=1) for _ in range(2 * BUDGET)) == BUDGET


def test_a_clock_far_ahead_at_start_forgets_nothing_when_it_is_set_right(tmp_path: Path) -> None:
    switch = tmp_path / "clock-ahead"
    with stage(tmp_path, shards=2, worker_processes=1, python_path=SHIM) as daemon:
        assert set(daemon.spent(KEYS).values()) == {0}
        daemon.down(signal.SIGTERM)
        switch.write_text(str(400 * 86_400))
        daemon.start()
        for _ in range(20):  # every collection is another turn of the shards
            assert counters(daemon.running) == len(KEYS)
        daemon.kill("keeper")
        switch.unlink()
        assert set(daemon.spent(KEYS).values()) == {1}
        daemon.down(signal.SIGKILL)
        daemon.start()
        assert set(daemon.spent(KEYS).values()) == {2}


def counters(daemon: Daemon) -> int:
    """Return how many counters there are."""
    with daemon.connect() as connection:
        text = connection.request("/metrics").body.decode()
    found = re.findall(r"^fairvisor_counters\{.*\} (\S+)$", text, re.MULTILINE)
    return sum(int(float(number)) for number in found)
