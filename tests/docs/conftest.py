"""The documents under test: their blocks, a shell to run them in, and a daemon to ask."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 60.0
_FENCE = re.compile(r"^```(?P<lang>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "=====next block====="


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_e2e = _load("docs_e2e", ROOT / "tests/e2e/conftest.py")


@dataclass(frozen=True)
class Step:
    """One `sh` block of a document: the commands, what the document says they print, what they do.

    `expected` is the `text` block right behind it, None without one.
    """

    command: str
    expected: str | None
    printed: str


def _commands(document: Path) -> list[tuple[str, str | None]]:
    found = [(each["lang"], each["body"]) for each in _FENCE.finditer(document.read_text())]
    following = [*found[1:], ("", "")]
    return [
        (body, after[1] if after[0] == "text" else None)
        for (lang, body), after in zip(found, following, strict=True)
        if lang == "sh"
    ]


Run = Callable[..., list[Step]]


@pytest.fixture(name="run_document")
def _run_document(tmp_path: Path) -> Run:
    """Run all `sh` blocks of a document, in order and in one shell, as its reader would."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    command = bin_folder / "fairvisor"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m daemon.cli.main "$@"\n')
    command.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    (work / "examples").symlink_to(ROOT / "examples")
    (work / "deploy").symlink_to(ROOT / "deploy")

    def run(
        name: str,
        environ: Mapping[str, str] | None = None,
        replace: Mapping[str, str] | None = None,
    ) -> list[Step]:
        steps = _commands(ROOT / "docs" / name)
        script = "\n".join(f"echo '{_MARK}'\n{body}" for body, _ in steps)
        for text, other in (replace or {}).items():
            script = script.replace(text, other)
        variables = {k: v for k, v in os.environ.items() if not k.startswith("FAIRVISOR_")}
        path = f"{bin_folder}:{variables['PATH']}"
        ran = subprocess.run(
            ["sh", "-euc", script],
            cwd=work,
            env=variables | {"PATH": path, "PYTHONPATH": str(ROOT)} | dict(environ or {}),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert ran.stderr == ""
        printed = ran.stdout.replace("\r", "").split(f"{_MARK}\n")[1:]
        return [
            Step(body, expected, output)
            for (body, expected), output in zip(steps, printed, strict=True)
        ]

    return run


@pytest.fixture(name="written", scope="session")
def _written() -> ModuleType:
    """Return `scripts/write_docs.py`."""
    return _load("write_docs", ROOT / "scripts/write_docs.py")


@pytest.fixture(name="serve")
def _serve() -> Iterator[Any]:
    """Start daemons for one test, as the end-to-end tests do."""
    with ExitStack() as stack:
        yield _e2e._starter(stack)


@pytest.fixture(name="wait_until", scope="session")
def _wait_until() -> Any:  # noqa: ANN401 - the end-to-end tests' own function
    return _e2e.wait_for
