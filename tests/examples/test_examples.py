import json
import time
from pathlib import Path

import pytest

from daemon.replay.recorded import moment
from protocol.validation.document import validate

POLICIES = sorted((Path(__file__).parents[2] / "examples").rglob("policy.json"))


def loaded_at(path: Path) -> float:
    """Return when a bundle is loaded: at the first request beside it (§16.1), else now."""
    requests = path.with_name("requests.json")
    if not requests.exists():
        return time.time()
    at = moment(json.loads(requests.read_text())[0]["at"])
    assert at is not None
    return at


def test_there_are_examples() -> None:
    assert POLICIES


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.parent.name)
def test_an_example_is_a_valid_bundle_without_warnings(path: Path) -> None:
    report = validate(json.loads(path.read_text()), now=loaded_at(path), strict=True)
    assert (report.errors, report.warnings) == ((), ())
