"""docs/limits.md is held to the code: its settings, defaults, metrics and fixed bounds exist."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from daemon.settings import VARIABLES
from daemon.supervisor.metrics import FAMILIES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/limits.md").read_text()
ROWS = re.findall(r"^\| `(FAIRVISOR_[A-Z_]+)` \| `([^`]*)` \| (.*) \| (.*) \|$", TEXT, re.MULTILINE)
FIXED = re.findall(r"^\| [^|]* \| (\d+)[^|]* \| `([\w.]+)` \|$", TEXT, re.MULTILINE)
BOUNDS = re.compile(r"_MAX_|_MIN_|_TIMEOUT|_QUEUE$|_BUFFER$|_SIZE$|_TTL$|_BACKLOG$")
UNCOUNTED = {"FAIRVISOR_BACKLOG", "FAIRVISOR_MAX_BODY_BYTES"}
"""What the system counts, and what nothing is refused for."""
TESTED = [
    path.read_text()
    for folder in ("tests/faults", "tests/e2e")
    for path in sorted((ROOT / folder).glob("test_*.py"))
]


def test_every_setting_that_is_a_bound_is_there() -> None:
    bounds = [each.name for each in VARIABLES if BOUNDS.search(each.name)]
    assert len(bounds) > 20
    assert sorted(name for name, *_ in ROWS) == sorted(bounds)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_is_true(row: tuple[str, str, str, str]) -> None:
    name, default, beyond, metrics = row
    (variable,) = (each for each in VARIABLES if each.name == name)
    assert variable.default == default
    assert beyond
    named = re.findall(r"`fairvisor_(\w+)(?:\{(\w+)=\"\w+\"\})?`", metrics)
    assert named or name in UNCOUNTED
    families = {family.name: family for family in FAMILIES}
    for family, label in named:
        assert not label or label in families[family].labels
        assert family in families


@pytest.mark.parametrize("name", [row[0] for row in ROWS])
def test_a_bound_is_hit_in_a_running_daemon(name: str) -> None:
    setting = name.removeprefix("FAIRVISOR_").lower()
    assert any(re.search(rf"\b{setting}=|{name}", text) for text in TESTED)


def test_fixed_bounds_are_as_the_code_has_them() -> None:
    assert len(FIXED) > 10
    for bound, place in FIXED:
        module, _, constant = place.rpartition(".")
        assert getattr(import_module(module), constant) == int(bound), place
