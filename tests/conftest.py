"""What holds for every test."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# Examples are the same on every run, so that a change is never blamed for another's luck; the long
# search is for its own hour: HYPOTHESIS_PROFILE=long scripts/test.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("long", deadline=None)
settings.load_profile("long" if os.environ.get("HYPOTHESIS_PROFILE") == "long" else "steady")

# A shell's background job starts with Ctrl-C ignored, and hands that on to all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart() -> None:
    """Refuse to test what was compiled from another source than the one that is here."""
    root = Path(__file__).parents[1]
    for room in root.glob("daemon/**/*.so"):
        source = room.with_name(f"{room.name.partition('.')[0]}.py")
        if source.exists() and room.stat().st_mtime < source.stat().st_mtime:
            pytest.exit(
                f"{room} is older than its source: scripts/compile, or scripts/compile --clean", 2
            )
