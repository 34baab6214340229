"""Find the conformance vectors and deal their cases out to tests.

A test module names its file in `AREA` ("*" for all files); a test takes the cases of one kind by
an argument called `<kind>_case`, for example `validation_case`.
"""

import json
import os
from pathlib import Path

import pytest

_BESIDE_THE_REPOSITORY = Path(__file__).parents[2] / "../shared/vectors"


def _folder() -> Path:
    named = os.environ.get("FAIRVISOR_VECTORS")
    folder = Path(named) if named else _BESIDE_THE_REPOSITORY
    if not folder.is_dir():
        pytest.fail(
            f"no conformance vectors in {folder.resolve()}: set FAIRVISOR_VECTORS to their folder",
            pytrace=False,
        )
    return folder


@pytest.fixture(scope="session")
def vectors_dir() -> Path:
    return _folder()


def _cases(area: str, kind: str) -> list[tuple[str, dict[str, object]]]:
    return [
        (f"{file.stem}: {case['name']}", case)
        for file in sorted(_folder().glob(f"{area}.json"))
        for case in json.loads(file.read_text("utf-8"))["cases"]
        if case.get("kind", "engine") == kind
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for argument in metafunc.fixturenames:
        kind, ending, _ = argument.partition("_case")
        if ending:
            cases = _cases(metafunc.module.AREA, kind)
            assert cases, f"no {kind} cases in {metafunc.module.AREA}"
            names, values = zip(*cases, strict=True)
            metafunc.parametrize(argument, values, ids=names)
