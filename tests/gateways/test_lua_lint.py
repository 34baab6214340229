"""The Lua files that gateways load are free of complaints; those of Kong have their own test."""

import subprocess
from pathlib import Path

import pytest

from tests.gateways.gateways import executable

ADAPTERS = Path(__file__).parents[2] / "adapters"


@pytest.mark.parametrize(("folder", "files"), [("nginx", 2), ("haproxy", 1)])
def test_luacheck_has_nothing_to_say(folder: str, files: int) -> None:
    luacheck = executable("luacheck", "Debian: apt-get install lua-check")
    assert len(list((ADAPTERS / folder).glob("*.lua"))) == files
    ran = subprocess.run(
        [luacheck, "--no-color", "."],
        cwd=ADAPTERS / folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
