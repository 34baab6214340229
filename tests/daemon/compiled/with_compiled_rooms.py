"""A pytest plugin: the tests of this run get the rooms that are compiled in $COMPILED_ROOMS."""

import os
import sys
from pathlib import Path

from daemon.compiled.loading import Compiled
from daemon.compiled.place import ROOMS, SUFFIX

sys.meta_path.insert(0, Compiled(Path(os.environ["COMPILED_ROOMS"])))


def pytest_sessionfinish() -> None:
    """Fail if nothing of what was tested was compiled.

    Raises:
        RuntimeError: a room that is to be compiled came from its source.
    """
    loaded = [name for name in ROOMS if name in sys.modules]
    plain = [name for name in loaded if not str(sys.modules[name].__file__).endswith(SUFFIX)]
    if plain or not loaded:
        raise RuntimeError(f"not compiled: {plain or 'nothing was loaded'}")
