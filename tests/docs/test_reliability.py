"""docs/reliability.md names the tests that show what it says, and leaves none of them out."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/reliability.md").read_text()
SOAK = (ROOT / "tests/faults/__main__.py").read_text()


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`(tests/[a-z0-9_/.]+)`", TEXT)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_no_fault_test_is_left_out() -> None:
    found = {f"tests/faults/{path.name}" for path in (ROOT / "tests/faults").glob("test_*.py")}
    assert found <= set(re.findall(r"`(tests/[a-z0-9_/.]+)`", TEXT))


def test_the_soaks_are_those_of_the_command() -> None:
    named = set(re.findall(r"^scripts/soak (\w+)", TEXT, re.MULTILINE))
    assert named == set(
        re.findall(r'^    "?(\w+)"?  +', SOAK.partition('"""')[2].partition('"""')[0], re.MULTILINE)
    )
    assert {path.stem for path in (ROOT / "tests/fuzz").glob("fuzz_*.py")} >= {
        f"fuzz_{name}" for name in re.findall(r"tests\.fuzz (\w+)", TEXT)
    }
