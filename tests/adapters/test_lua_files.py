"""Every Lua file that a gateway loads is free of luacheck's complaints."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "adapters").rglob("*.lua"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "adapters")))
def test_luacheck_has_nothing_to_say(path: Path) -> None:
    luacheck = shutil.which("luacheck")
    assert luacheck is not None, "luacheck is missing (Debian: apt-get install lua-check)"
    ran = subprocess.run(
        [luacheck, "--no-color", str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout
