import json
from pathlib import Path

import pytest

from protocol.validation.document import validate

POLICIES = sorted((Path(__file__).parents[1] / "examples").rglob("policy.json"))


def test_there_are_examples() -> None:
    assert POLICIES


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.parent.name)
def test_an_example_is_a_valid_bundle_without_warnings(path: Path) -> None:
    # Examples carry dates of their own day, so they are judged before all of them.
    report = validate(json.loads(path.read_text()), now=0.0, strict=True)
    assert (report.errors, report.warnings) == ((), ())
