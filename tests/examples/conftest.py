import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest

from tests.examples.place import ROOT, Place


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_e2e = _load("examples_e2e", ROOT / "tests/e2e/conftest.py")


@pytest.fixture(name="place")
def _place() -> Iterator[Place]:
    # Not tmp_path: under parallel tests its name is too long for the shards' sockets.
    with TemporaryDirectory(prefix="fv-examples-") as folder, ExitStack() as stack:
        yield Place(Path(os.path.realpath(folder)), stack)


@pytest.fixture(name="connect")
def _connect() -> Callable[[int], Any]:
    """Return a function that connects to a port of this machine, as a plain HTTP client."""
    return lambda port: _e2e.Connection(("127.0.0.1", port))
