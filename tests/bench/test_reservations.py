from dataclasses import astuple
from pathlib import Path

from bench.reservations import LOADS, OVERLOAD, WAYS, simulate, table

DOCUMENT = Path(__file__).parents[2] / "docs/llm-proxy.md"


def test_the_document_shows_what_is_measured() -> None:
    assert table() in DOCUMENT.read_text()


def test_worst_cases_refuse_without_need() -> None:
    cap, default, low, learned, _ = (simulate(way, LOADS[-1]) for way in WAYS)
    assert cap.calls == default.calls == low.calls == learned.calls
    assert cap.needless > 0.2 * cap.calls
    assert max(default.needless, learned.needless, low.needless) < 0.01 * cap.calls


def test_what_is_reserved_too_low_goes_beyond_the_budget() -> None:
    cap, default, low, learned, _ = (simulate(way, OVERLOAD) for way in WAYS)
    assert (cap.beyond, default.beyond) == (0, 0)
    assert 0 < learned.beyond < low.beyond
    assert cap.used < learned.used


def test_every_run_is_the_same() -> None:
    way = WAYS[3]
    assert astuple(simulate(way, 0.5)) == astuple(simulate(way, 0.5))
