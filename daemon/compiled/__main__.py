"""Compile a front's hot rooms into this environment: `python -m daemon.compiled`.

Needs a C compiler and the extra `compiled`; takes about a minute of processor time. Without either
the daemon runs from its sources. `--remove` takes back what was compiled.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from daemon.compiled.place import ROOMS, digest, root, shelf

_UNDER_WAY = "build-"
_BUILD = """
import os, sys
from mypyc.build import mypycify
from setuptools import Distribution
from setuptools.command.build_ext import build_ext

level, target, lib, *files = sys.argv[1:]
sys.argv[1:] = []
options = dict(opt_level=level, debug_level="0", multi_file=True, target_dir=target)
distribution = Distribution({"name": "rooms", "ext_modules": mypycify(files, **options)})
command = build_ext(distribution)
command.build_lib, command.build_temp, command.parallel = lib, target, os.cpu_count()
command.ensure_finalized()
command.run()
"""


def build(store: Path, level: str = "2") -> Path:
    """Compile the rooms into `store` unless that was done; return where they are.

    `level` is how much the C compiler optimises, "0" to "3".

    Raises:
        RuntimeError: it failed; the text says why.
    """
    sources = root()
    place = store / digest(sources)
    if place.is_dir():
        return place
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_UNDER_WAY, dir=store) as name:
        folder = Path(name)
        lib = folder / "lib"
        files = [f"{room.replace('.', '/')}.py" for room in ROOMS]
        command = [sys.executable, "-c", _BUILD, level, str(folder / "c"), str(lib), *files]
        environment = {**os.environ, "MYPY_CACHE_DIR": str(folder / "types")}
        done = subprocess.run(  # noqa: S603 - this Python, on our sources
            command, cwd=sources, env=environment, check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise RuntimeError((done.stdout + done.stderr).strip()[-2000:])
        _forget(store)
        try:
            lib.rename(place)
        except OSError:  # another process was faster
            if not place.is_dir():
                raise
    return place


def _forget(store: Path) -> None:
    """Remove what belongs to sources that are gone."""
    for each in store.iterdir():
        if not each.name.startswith(_UNDER_WAY):
            shutil.rmtree(each)


def main() -> None:
    """Do what the command line says."""
    if sys.argv[1:] == ["--remove"]:
        if shelf().is_dir():
            shutil.rmtree(shelf())
        return
    try:
        sys.stdout.write(f"{build(shelf())}\n")
    except RuntimeError as error:
        sys.exit(f"could not compile; the daemon runs from its sources as before:\n{error}")


if __name__ == "__main__":
    main()
