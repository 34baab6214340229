"""A wheel is compiled where there is a compiler, and installs and works where there is none."""

import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ["daemon", "shard", "protocol", "adapters", "pyproject.toml", "setup.py", "README.md",
           "LICENSE"]  # fmt: skip
METERED = """
from daemon.llm import meter
from daemon.llm.meter import StreamMeter
event = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\\n\\n'
metered = StreamMeter("openai")
for text in (b"four", b"eight678", b"\\xc3\\xa9", b"a"):
    assert metered.feed(event % text) == event % text
    assert metered.feed_chunk(b"41\\r\\n" + event % text + b"\\r\\n", 4) is not None
print(metered.counted, meter.__file__.rpartition(".")[2])
"""


@pytest.mark.parametrize(
    ("environment", "ending"),
    [({"CC": "cc"}, "so"), ({"CC": "/nonexistent/cc"}, "py"), ({"FAIRVISOR_PURE": "1"}, "py")],
)
def test_a_wheel_holds_what_could_be_compiled(
    tmp_path: Path, environment: dict[str, str], ending: str
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.so"))
        else:
            shutil.copy(ROOT / name, copy / name)
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, copy],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = tmp_path.glob("fairvisor-*.whl")
    with zipfile.ZipFile(path) as wheel:
        compiled = {name.partition(".")[0] for name in wheel.namelist() if name.endswith(".so")}
        wheel.extractall(tmp_path / "installed")
    asked = runpy.run_path(str(ROOT / "setup.py"))["COMPILED"]
    rooms = {name.removesuffix(".py") for name in asked}
    assert compiled == (rooms | {"daemon/compiled__mypyc"} if ending == "so" else set())
    ran = subprocess.run(
        [sys.executable, "-c", METERED], cwd=tmp_path / "installed",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.split() == ["10", ending]
