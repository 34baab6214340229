"""The `validation` and `engine` cases through the command line, seen through its JSON only."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from daemon.cli.main import main

AREA = "*"
NAMES = {"rule": "rule_name", "estimated": "reserved"}
ROOT = Path(__file__).parents[2]

Command = Callable[[list[str], dict[str, str]], tuple[int, str, str]]


def in_process(arguments: list[str], environ: dict[str, str]) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, arguments, env=environ)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout, result.stderr


def as_subprocess(arguments: list[str], environ: dict[str, str]) -> tuple[int, str, str]:
    result = subprocess.run(
        [sys.executable, "-m", "daemon.cli.main", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return result.returncode, result.stdout, result.stderr


def test_validation_case_by_command(validation_case: dict[str, Any], tmp_path: Path) -> None:
    check_validation(in_process, validation_case, tmp_path)


def test_engine_case_by_command(engine_case: dict[str, Any], tmp_path: Path) -> None:
    check_engine(in_process, engine_case, tmp_path, expand=False)


def test_engine_case_with_every_repetition_spelled_out(
    engine_case: dict[str, Any], tmp_path: Path
) -> None:
    check_engine(in_process, engine_case, tmp_path, expand=True)


@pytest.mark.parametrize("area", ["settlement", "circuit_breaker", "ratelimit_headers"])
def test_an_engine_case_by_a_process_of_its_own(
    area: str, vectors_dir: Path, tmp_path: Path
) -> None:
    cases = json.loads((vectors_dir / f"{area}.json").read_text())["cases"]
    case = next(case for case in cases if case.get("kind", "engine") == "engine")
    check_engine(as_subprocess, case, tmp_path, expand=True)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_validation_case_by_a_process_of_its_own(
    wanted: bool,  # noqa: FBT001 - a parameter of the test
    vectors_dir: Path,
    tmp_path: Path,
) -> None:
    cases = json.loads((vectors_dir / "bundle_validation.json").read_text())["cases"]
    case = next(
        case
        for case in cases
        if case.get("kind") == "validation" and case["expect"]["valid"] == wanted
    )
    check_validation(as_subprocess, case, tmp_path)


def check_validation(command: Command, case: dict[str, Any], folder: Path) -> None:
    bundle = folder / "policy.json"
    bundle.write_text(json.dumps(case["bundle"]))
    arguments = ["validate", str(bundle), "--format=json", f"--at={case['at']}"]
    if case.get("strict"):
        arguments.append("--strict")
    code, stdout, stderr = command(arguments, {})
    document = json.loads(stdout)
    assert stderr == ""
    assert set(document) == {"valid", "errors", "warnings"}
    assert document["valid"] == case["expect"]["valid"], document
    assert code == (0 if document["valid"] else 1)
    for kind in ("errors", "warnings"):
        for wanted in case["expect"].get(kind, []):
            assert any(
                found["path"] == wanted["path"]
                and wanted["contains"].lower() in found["message"].lower()
                for found in document[kind]
            ), document[kind]


def check_engine(command: Command, case: dict[str, Any], folder: Path, *, expand: bool) -> None:
    entries, last_of = requests_of(case["steps"], expand=expand)
    (folder / "policy.json").write_text(json.dumps(case["bundle"]))
    (folder / "requests.json").write_text(json.dumps(entries))
    arguments = ["test", str(folder / "policy.json"), "--format", "json"]
    arguments += ["--requests", str(folder / "requests.json")]
    environ = {}
    if case.get("trusted_proxies"):
        environ["FAIRVISOR_TRUSTED_PROXIES"] = case["trusted_proxies"]
    code, stdout, stderr = command(arguments, environ)
    assert code == 0, stderr
    document = json.loads(stdout)
    items: dict[int, list[dict[str, Any]]] = {}
    for item in document["results"]:
        items.setdefault(item["index"], []).append(item)
    for number, step in enumerate(case["steps"]):
        here = [items[entry] for entry in last_of[number]]
        all_items = [item for group in here for item in group]
        assert len(all_items) == step.get("repeat", 1)
        for item in all_items:
            check(item, step.get("expect_each", {}))
        check(all_items[-1], step.get("expect", {}))
    actions = [item["action"] for item in document["results"] if "action" in item]
    assert document["summary"] == {
        "total": len(actions),
        **{name: actions.count(name) for name in ("allow", "reject", "throttle")},
    }


def requests_of(
    steps: list[dict[str, Any]], *, expand: bool
) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """Return the entries of a requests file, and per step the numbers of its entries."""
    entries: list[dict[str, Any]] = []
    numbers: list[list[int]] = []
    for step in steps:
        time = {"at": step["at"]} if "at" in step else {}
        copies = 1
        if "settle" in step:
            settle = step["settle"]
            index = numbers[settle["step"]][-1]
            entry = {**time, "settle": {"index": index, "usage": settle["usage"]}}
        elif "reset_breaker" in step:
            entry = {**time, "reset_breaker": True}
        else:
            entry = {**time, **step["request"]}
            copies = step.get("repeat", 1)
            if not expand and copies > 1:
                entry["repeat"], copies = copies, 1
        numbers.append(list(range(len(entries), len(entries) + copies)))
        entries += [entry] * copies
    return entries, numbers


def check(item: dict[str, Any], expect: dict[str, Any]) -> None:
    for key, wanted in expect.items():
        if key == "headers":
            for name, value in wanted.items():
                assert item["headers"].get(name) == value, name
        elif key == "headers_absent":
            assert not [name for name in wanted if name in item["headers"]]
        else:
            found = item[NAMES.get(key, key)]
            if isinstance(wanted, float | int) and not isinstance(wanted, bool):
                assert found == pytest.approx(wanted, abs=1e-6), key
            else:
                assert found == wanted, key
