"""The Lua files that nginx loads are free of luacheck's complaints."""

import subprocess
from pathlib import Path

from tests.gateways.gateways import executable

FOLDER = Path(__file__).parents[2] / "adapters/nginx"


def test_luacheck_has_nothing_to_say() -> None:
    luacheck = executable("luacheck", "Debian: apt-get install lua-check")
    assert len(list(FOLDER.glob("*.lua"))) == 2
    ran = subprocess.run(
        [luacheck, "--no-color", "."], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout
