import re
from pathlib import Path
from types import ModuleType

import pytest

from daemon.engine import outcome
from daemon.settings import VARIABLES
from daemon.settings_reference import text as settings_text
from protocol.decision import Decision, Limit
from protocol.descriptors import FIXED_NAMES, NAMED_KINDS
from protocol.fields import decision_fields
from protocol.reference import text as reference_text
from protocol.reference.answers import DESCRIPTORS, HEADERS, REASONS
from protocol.schema import bundle_schema

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("adapters/*/*.md"),
        *ROOT.glob("examples/**/*.md"),
    ]
)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def test_written_files_are_as_the_script_writes_them(written: ModuleType) -> None:
    for path, content in written.documents().items():
        assert path.read_text() == content, f"{path} is not up to date: run scripts/docs"


def anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for found in _LINK.finditer(path.read_text()):
        target, _, anchor = found["target"].partition("#")
        if "://" in target:
            continue
        there = (path.parent / target) if target else path
        assert there.exists(), found[0]
        assert not anchor or anchor in anchors(there), found[0]


def test_the_reference_has_every_field_of_the_schema() -> None:
    text = reference_text()
    for definition in bundle_schema()["$defs"].values():
        for field in definition.get("properties", {}):
            assert f"| `{field}` |" in text


def test_the_reference_has_every_descriptor_key() -> None:
    keys = {f"{kind}:<name>" for kind in NAMED_KINDS}
    keys |= {f"{kind}:{name}" for kind, names in FIXED_NAMES.items() for name in names}
    assert set(DESCRIPTORS) == keys


def test_the_reference_has_every_reason_that_the_code_gives() -> None:
    given = set(outcome.REASONS.values())
    for path in [*(ROOT / "daemon").rglob("*.py"), ROOT / "protocol/decision.py"]:
        given |= set(re.findall(r'reason(?:: str)? ?= ?"(\w+)"', path.read_text()))
    known = {reason.name for reason in REASONS}
    assert given - {"shutting_down", "no_policy_loaded"} <= known
    assert {"tpm_exceeded", "kill_switch_active", "invalid_token"} <= given


def test_the_reference_has_every_header_that_is_sent() -> None:
    allow = Decision(
        fields=Limit("p", 1, 1, 1, 1), warning="loop_warn", loop_count=3, reservation="r"
    )
    reject = Decision(action="reject", status=429)
    sent = decision_fields(allow) + decision_fields(reject)
    sent += decision_fields(Decision(action="reject", status=401))
    names = {name for name, _, _ in HEADERS}
    assert {name for name, _ in sent} | {"X-Fairvisor-Delay-Ms"} == names


def test_settings_list_every_variable_with_its_default() -> None:
    text = settings_text()
    for variable in VARIABLES:
        assert f"| `{variable.name}` | " in text
        assert variable.meaning in text
    assert text.count("\n| `FAIRVISOR_") == len(VARIABLES)
