"""A test run that is killed leaves no daemon behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import ROOT, START_SECONDS, wait_for
from tests.end_with_us import KILLED

RUN = """
import json, sys
from contextlib import ExitStack
from tests.e2e.conftest import _starter
with ExitStack() as stack:
    daemon = _starter(stack)({"bundle_version": 1, "policies": []})
    print(json.dumps([str(daemon.folder), daemon.pids()]), flush=True)
    sys.stdin.read()
"""


def test_a_killed_run_takes_its_daemons_along() -> None:
    with subprocess.Popen(
        [*KILLED, sys.executable, "-c", RUN],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as run:
        assert run.stdout is not None
        folder, pids = json.loads(run.stdout.readline())
        assert {"supervisor", "keeper", "front 0", "shard 0"} <= set(pids)
        run.kill()
        wait_for(lambda: not any(map(_lives, pids.values())), START_SECONDS, "every one gone")
        shutil.rmtree(folder)


def _lives(pid: int) -> bool:
    """Return whether a process is there, and not as a corpse that nobody has looked at."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
