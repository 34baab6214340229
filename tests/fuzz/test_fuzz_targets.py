"""The fuzz targets over their corpora, and a short bounded run of each under Atheris."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))
SEEDS = [(name, seed) for name in TARGETS for seed in sorted((HERE / "corpus" / name).iterdir())]


@pytest.mark.parametrize(("name", "seed"), SEEDS, ids=[f"{n}/{s.name}" for n, s in SEEDS])
def test_seed(name: str, seed: Path) -> None:
    import_module(f"tests.fuzz.fuzz_{name}").one_input(seed.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_short_run(name: str, tmp_path: Path) -> None:
    bounds = ["-runs=4000", "-seed=7", "-max_len=2048", f"-artifact_prefix={tmp_path}/"]
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, *bounds],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert "Done 4000 runs" in run.stderr
