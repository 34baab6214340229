"""The npm packages of the gateway tests, installed once, exactly as the lock file says."""

import fcntl
import hashlib
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
INSTALL_SECONDS = 300.0


def workerd() -> Path:
    """Return workerd itself; installs the packages if the lock file has changed.

    The program in `.bin` would start it as a child of its own, which nobody ends. Several test
    processes may ask at once: one installs, the others wait.
    """
    folder = HERE / "node_modules"
    lock_text = (HERE / "package-lock.json").read_bytes()
    wanted = hashlib.sha256(lock_text).hexdigest()
    mark = folder / ".installed"
    with (HERE / "package.json").open() as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        if not mark.is_file() or mark.read_text() != wanted:
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(
                command,
                cwd=HERE,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            mark.write_text(wanted)
    (found,) = folder.glob("@cloudflare/workerd-*/bin/workerd")
    return found
