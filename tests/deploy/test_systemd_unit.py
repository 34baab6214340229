"""The units are what systemd takes, and what they take away the daemon does not miss.

There is no systemd as process 1 where tests run. Its analyzer judges the files, and the daemon is
started with the parts of the sandbox that can be built without it: a read-only view of all but its
own folders, no capabilities, no new privileges, no home, a mask of 0077, and no memory that is both
written and run (prctl(2), PR_SET_MDWE).
"""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Connection, bucket, wait_for
from tests.gateways.gateways import executable

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy/systemd"
SERVICE = UNITS / "fairvisor.service"
SOCKET = UNITS / "fairvisor.socket"
THRESHOLD = 20
"""Tenths: an exposure of 2.0."""
READY_SECONDS = 60.0

SANDBOX = """
set -eu
mount --bind "$1" "$1"
mount -o remount,bind,ro /
! touch /etc/fairvisor-was-here 2>/dev/null
shift
exec setpriv --pdeathsig KILL --no-new-privs \\
    --bounding-set=-all --inh-caps=-all --ambient-caps=-all "$@"
"""
CONFINED = """
import ctypes, os, sys
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.stderr.write("this kernel has no PR_SET_MDWE\\n")
os.umask(0o077)
os.execv(sys.executable, [sys.executable, "-m", "daemon.cli.main", "serve"])
"""


def settings(unit: Path) -> dict[str, list[str]]:
    """Return what a unit says, by key."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


@pytest.fixture(name="analyze")
def _analyze(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Let systemd's analyzer look at units, whose program need not be installed here."""
    for unit in (SERVICE, SOCKET):
        text = unit.read_text().replace("/opt/fairvisor/bin/fairvisor serve", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    program = executable("systemd-analyze", "Debian: apt-get install systemd")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_systemd_takes_both_units(analyze: Callable[..., Any]) -> None:
    ran = analyze("verify", "./fairvisor.service", "./fairvisor.socket")
    own = [line for line in ran.stderr.splitlines() if "fairvisor" in line]
    assert (own, ran.returncode) == ([], 0), ran.stderr


def test_the_service_is_little_exposed(analyze: Callable[..., Any]) -> None:
    ran = analyze(
        "security", "--offline=true", f"--threshold={THRESHOLD}", "--no-pager",
        "./fairvisor.service",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = re.search(r"Overall exposure level for fairvisor.service: ([\d.]+)", ran.stdout)
    assert found is not None, ran.stdout
    assert float(found[1]) <= THRESHOLD / 10


def test_the_service_is_run_as_the_daemon_expects() -> None:
    said = settings(SERVICE)
    assert said["Type"] == ["notify"]
    assert said["NotifyAccess"] == ["main"]
    assert int(said["WatchdogSec"][0]) >= 10
    assert said["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert said["KillMode"] == ["mixed"]
    assert int(said["TimeoutStopSec"][0]) >= 40
    assert said["UMask"] == ["0077"]
    assert said["RuntimeDirectory"] == said["StateDirectory"] == ["fairvisor"]
    examples = re.findall(r"^#LoadCredential=(\w+):", SERVICE.read_text(), re.MULTILINE)
    assert len(examples) == 3
    from daemon.settings.secrets import is_secret  # noqa: PLC0415 - what the names are for

    assert all(is_secret(name) for name in examples)


def test_the_sockets_name_is_the_services() -> None:
    said = settings(SOCKET)
    assert said["Accept"] == ["no"]
    assert said["FileDescriptorName"] == ["fairvisor"]
    assert said["ListenStream"][0] == "127.0.0.1:8080"


@pytest.fixture(name="folder")
def _folder() -> Iterator[Path]:
    """Return a folder whose name leaves room for a socket's."""
    with tempfile.TemporaryDirectory(prefix="fv-unit-") as name:
        yield Path(name).resolve()


def test_the_daemon_lives_in_what_the_unit_leaves_it(folder: Path) -> None:
    for name in ("unshare", "setpriv", "mount"):
        executable(name, "Debian: apt-get install util-linux mount")
    for name in ("etc", "state", "run", "tmp", "credentials"):
        (folder / name).mkdir()
    (folder / "credentials/FAIRVISOR_DEBUG_SESSION_SECRET").write_text("a-secret\n")
    bundle = {"bundle_version": 1, "policies": [bucket("p", "/", "ip:address", 0.001, 2)]}
    (folder / "etc/policy.json").write_text(json.dumps(bundle))
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/nonexistent",
        "TMPDIR": str(folder / "tmp"),
        "CREDENTIALS_DIRECTORY": str(folder / "credentials"),
        "FAIRVISOR_CONFIG_FILE": str(folder / "etc/policy.json"),
        "FAIRVISOR_STATE_DIR": str(folder / "state"),
        "FAIRVISOR_ADMIN_SOCKET": str(folder / "run/admin.sock"),
        "FAIRVISOR_LISTEN": "127.0.0.1:0",
        "FAIRVISOR_WORKER_PROCESSES": "1",
    }
    log = folder / "log"
    own_user = [] if os.geteuid() == 0 else ["--map-root-user"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["unshare", *own_user, "--mount", "--propagation=private", "sh", "-c", SANDBOX, "sh",
             str(folder), sys.executable, "-c", CONFINED],
            cwd=folder, env=environ, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        lives(process, log, folder)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def lives(process: subprocess.Popen[bytes], log: Path, folder: Path) -> None:
    """Ask, reload, kill a child, stop: as ever."""

    def said(words: str) -> bool:
        assert process.poll() is None, log.read_text()
        return words in log.read_text()

    wait_for(lambda: said("ready on "), READY_SECONDS, "ready")
    wait_for(lambda: said("admin socket at"), READY_SECONDS, "the admin socket")
    port = int(re.findall(r"127\.0\.0\.1:(\d+)", log.read_text())[0])
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    with Connection(("127.0.0.1", port)) as connection:
        headers = {"X-Original-URI": "/x", "X-Forwarded-For": "192.0.2.1"}
        statuses = [connection.request(headers=headers).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        secret = {"X-Fairvisor-Debug-Secret": "a-secret"}
        answer = connection.request("/v1/debug/session", secret, method="POST")
        assert answer.status == 204
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: said("SIGHUP: reading"), READY_SECONDS, "a reload")
    for path in folder.rglob("*"):
        if path.parent.name in {"state", "run", "log"} and path.name != "log":
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    process.terminate()
    assert process.wait(60) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
