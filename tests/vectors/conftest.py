"""Where the conformance vectors are: FAIRVISOR_VECTORS, or beside the repository."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[2] / ".." / "shared" / "vectors"


@pytest.fixture(scope="session")
def vectors_dir() -> Path:
    found = Path(os.environ.get("FAIRVISOR_VECTORS") or _BESIDE).resolve()
    if not found.is_dir():
        pytest.fail(f"no conformance vectors at {found}: set FAIRVISOR_VECTORS to their folder")
    return found
