"""The lock file and the bill of materials are the project's, whole, and of no machine."""

import json
import re
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "deploy/requirements.lock"
SBOM = ROOT / "deploy/sbom.cdx.json"


@pytest.fixture(name="writer", scope="module")
def _writer() -> ModuleType:
    spec = spec_from_file_location("write_sbom", ROOT / "scripts/write_sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_dependency_is_locked_at_a_version_that_fits(writer: ModuleType) -> None:
    pins = {pin.name: pin for pin in writer.read_lock(LOCK.read_text())}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(each) for each in project["dependencies"]]
    assert len(wanted) >= 10
    for requirement in wanted:
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin.version), requirement
        assert any(reason.startswith("fairvisor") for reason in pin.needed_by), pin.name
    direct = {canonicalize_name(each.name) for each in wanted}
    for pin in pins.values():
        assert pin.hashes, pin.name
        assert pin.needed_by, pin.name
        ours = any(reason.startswith("fairvisor") for reason in pin.needed_by)
        assert ours is (pin.name in direct), f"{pin.name}: run scripts/lock"


def test_the_bill_of_materials_is_the_lock_files(writer: ModuleType) -> None:
    assert SBOM.read_text() == writer.text(), "run scripts/lock"
    document = json.loads(SBOM.read_text())
    pins = writer.read_lock(LOCK.read_text())
    named = {(each["name"], each["version"]) for each in document["components"]}
    assert named == {(pin.name, pin.version) for pin in pins}
    refs = {each["bom-ref"] for each in document["components"]} | {"fairvisor"}
    assert {each["ref"] for each in document["dependencies"]} == refs
    reached, waiting = set(), ["fairvisor"]
    needs = {each["ref"]: each["dependsOn"] for each in document["dependencies"]}
    while waiting:
        ref = waiting.pop()
        if ref not in reached:
            reached.add(ref)
            waiting += needs[ref]
    assert reached == refs


@pytest.mark.parametrize("path", [LOCK, SBOM], ids=lambda path: path.name)
def test_it_names_no_host_and_no_path(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"://|\bindex-url\b|\bfind-links\b|\btrusted-host\b", text)
    assert not re.search(r"(^|\s)(/[a-z]|file:|~/)", text, re.MULTILINE)


@pytest.mark.parametrize("line", ["click", "click==8.1", "-e .", "--index-url x"])
def test_what_is_no_pin_is_refused(writer: ModuleType, line: str) -> None:
    with pytest.raises(ValueError, match="line 1 is no part of a pin"):
        writer.read_lock(line)
