"""Secrets of a running daemon: from files, in no child's environment, on no command line."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.signing import sign
from tests.upstreams.llm import Upstream

Serve = Callable[..., Any]
CANARY = "canary-7f1c-"


@pytest.fixture(name="upstream")
def _upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def secret(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text(f"{CANARY}{name}\n")
    path.chmod(0o600)
    return path


def shown_of(pid: int) -> bytes:
    """Return what /proc tells of a process to its user: environment and command line."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline"))


def test_secrets_from_files_and_credentials_work_and_are_in_no_environment(
    serve: Serve, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    secret(credentials, "FAIRVISOR_BUNDLE_SIGNING_KEY")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    bundle = sign(
        f"{CANARY}FAIRVISOR_BUNDLE_SIGNING_KEY".encode(), b'{"bundle_version":1,"policies":[]}'
    )
    daemon = serve(
        bundle.decode(),
        mode="reverse_proxy",
        backend_url=upstream.url,
        shards=2,
        worker_processes=2,
        debug_session_secret_file=secret(tmp_path, "debug"),
        upstream_header_x_key_file=secret(tmp_path, "key"),
    )

    def works() -> None:
        wrong, right = (
            {"X-Fairvisor-Debug-Secret": "x"},
            {"X-Fairvisor-Debug-Secret": f"{CANARY}debug"},
        )
        for headers, status in ((wrong, 403), (right, 204)):
            with daemon.connect() as connection:
                answer = connection.request("/v1/debug/session", headers, method="POST")
                assert answer.status == status
        with daemon.connect() as connection:
            connection.request("/x", {"X-Mode": "echo"})
        assert upstream.seen[-1].header("X-Key") == f"{CANARY}key"

    works()
    for pid in daemon.all_pids():
        assert CANARY.encode() not in shown_of(pid)
    # A front that is started again gets the secrets that the daemon began with.
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.unlink()
    for name in ("front 0", "front 1"):
        os.kill(daemon.pids()[name], signal.SIGKILL)
    works()
    assert CANARY not in daemon.said()


def test_secrets_in_the_environment_stay_in_the_supervisor(serve: Serve) -> None:
    daemon = serve({"bundle_version": 1, "policies": []}, debug_session_secret=f"{CANARY}debug")
    children = [pid for pid in daemon.all_pids() if pid != daemon.process.pid]
    assert len(children) >= 3
    for pid in children:
        assert CANARY.encode() not in shown_of(pid)
    assert CANARY.encode() not in Path(f"/proc/{daemon.process.pid}/cmdline").read_bytes()


def test_a_secret_in_two_places_ends_the_start(serve: Serve, tmp_path: Path) -> None:
    path = secret(tmp_path, "debug")
    daemon = serve(
        {"bundle_version": 1, "policies": []},
        ready=False,
        debug_session_secret=f"{CANARY}debug",
        debug_session_secret_file=path,
    )
    assert daemon.process.wait(60) == 1
    assert daemon.said() == (
        "fairvisor: FAIRVISOR_DEBUG_SESSION_SECRET: is set twice, by "
        "FAIRVISOR_DEBUG_SESSION_SECRET and FAIRVISOR_DEBUG_SESSION_SECRET_FILE: "
        "remove one of them\n"
    )


def test_a_file_that_cannot_be_used_ends_the_start(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "absent"
    daemon = serve({"bundle_version": 1, "policies": []}, ready=False, bundle_signing_key_file=path)
    assert daemon.process.wait(60) == 1
    assert daemon.said() == (
        f"fairvisor: FAIRVISOR_BUNDLE_SIGNING_KEY_FILE: {path} cannot be read: "
        "No such file or directory\n"
    )
