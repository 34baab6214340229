"""Have modules imported from what was compiled instead of from their sources."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from daemon.compiled.place import SUFFIX, compiled


class Compiled(MetaPathFinder):
    """Finds the modules that are in a folder of compiled ones."""

    def __init__(self, folder: Path) -> None:
        files = folder.rglob(f"*{SUFFIX}")
        self._files = {_name(file.relative_to(folder)): file for file in files}

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module is, None if it is not here."""
        file = self._files.get(fullname)
        return None if file is None else spec_from_file_location(fullname, file)


def use() -> bool:
    """Import what was compiled from now on, if it belongs to the sources; return whether."""
    folder = compiled()
    if folder is not None:
        sys.meta_path.insert(0, Compiled(folder))
    return folder is not None


def _name(file: Path) -> str:
    return str(file).removesuffix(SUFFIX).replace("/", ".")
