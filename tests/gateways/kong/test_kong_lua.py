"""The plugin's Lua: unit tests, lint, and what a package of it holds."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "adapters/kong"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def run(program: str, *arguments: str, folder: Path) -> str:
    path = shutil.which(program)
    assert path is not None, f"{program} is missing: apt-get install lua-busted lua-check"
    done = subprocess.run(
        [path, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_units_pass() -> None:
    said = run("busted", "--output=plainTerminal", folder=HERE)
    found = re.search(r"^(\d+) successes / 0 failures / 0 errors", said, re.MULTILINE)
    assert found, said
    assert int(found[1]) >= 50


def test_lint_is_clean() -> None:
    run("luacheck", "--no-color", ".", folder=PLUGIN)
    run("luacheck", "--no-color", ".", folder=HERE)


def test_the_rock_holds_every_module_and_has_the_products_version() -> None:
    (rockspec,) = PLUGIN.glob("*.rockspec")
    text = rockspec.read_text()
    listed = dict(re.findall(r'\["([\w.]+)"\] = "([\w/.]+)"', text))
    there = {path.relative_to(PLUGIN) for path in PLUGIN.rglob("*.lua")}
    assert {Path(path) for path in listed.values()} == there
    for module, path in listed.items():
        assert module.replace(".", "/") + ".lua" == path
    handler = (PLUGIN / "kong/plugins/fairvisor/handler.lua").read_text()
    assert f'VERSION = "{VERSION}"' in handler
    assert rockspec.name == f"kong-plugin-fairvisor-{VERSION}-1.rockspec"
    assert f'version = "{VERSION}-1"' in text
