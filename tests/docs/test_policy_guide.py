import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from protocol.validation.document import validate

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/policy-guide.md"
EXAMPLES = sorted((ROOT / "examples/policies").iterdir())


@pytest.fixture(name="blocks", scope="module")
def _blocks(written: ModuleType) -> dict[tuple[str, str], str]:
    """Return every marked block by kind and folder."""
    return {
        (found["kind"], found["folder"]): found[0].split("\n", 2)[2].removesuffix("\n```")
        for found in written.BLOCK.finditer(GUIDE.read_text())
    }


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_a_printed_outcome_is_what_the_command_line_makes_of_the_example(
    folder: Path, written: ModuleType, blocks: dict[tuple[str, str], str]
) -> None:
    assert blocks["outcome", f"examples/policies/{folder.name}"] == written.outcome(folder)


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_an_example_shows_its_control_both_ways_or_names_what_it_counts(
    folder: Path, written: ModuleType
) -> None:
    items = [item for item in written.results(folder) if "action" in item]
    shown = {(item["action"], item["reason"], item["would_reject"]) for item in items}
    assert len(shown) > 1 or len({item["reserved"] for item in items}) > 1


def test_printed_policies_are_the_files(blocks: dict[tuple[str, str], str]) -> None:
    for (kind, folder), body in blocks.items():
        if kind == "policy":
            assert body == (ROOT / folder / "policy.json").read_text().rstrip()


def test_no_json_stands_in_the_guide_that_is_not_a_file(
    blocks: dict[tuple[str, str], str],
) -> None:
    printed = re.findall(r"^```json$", GUIDE.read_text(), re.MULTILINE)
    assert len(printed) == sum(kind == "policy" for kind, _ in blocks)


def test_the_commands_of_the_guide_work(run_document: Callable[..., Any]) -> None:
    steps = run_document("policy-guide.md")
    assert "Valid: 1 policy, 1 rule" in steps[0].printed
    assert "8 total, 7 allow, 1 reject" in steps[0].printed
    assert "Would reject in enforce mode" in steps[1].printed
    assert "Valid" in steps[2].printed


def test_unverified_claims_are_warned_of() -> None:
    document = json.loads((ROOT / "examples/policies/jwt/policy.json").read_text())
    del document["jwt"]
    (warning,) = validate(document, now=0.0).warnings
    assert warning.path == "$.jwt"
    assert "without verification" in warning.message


def test_the_hmac_of_a_signed_bundle_is_checked(
    run_document: Callable[..., Any], tmp_path: Path
) -> None:
    run_document("policy-guide.md")
    signed = (tmp_path / "work/signed-policy.json").read_text()
    assert (
        signed.partition("\n")[2]
        == (ROOT / "examples/policies/token-bucket/policy.json").read_text()
    )
