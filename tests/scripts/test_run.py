"""`scripts/run`, the README's first command, from its start to Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_with_us import ASKED

ROOT = Path(__file__).parents[2]
SECONDS = 90.0


def until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


@pytest.fixture(name="venv")
def _venv(tmp_path: Path) -> Path:
    """Return an environment that is installed already: this one, under another name."""
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    for name, arguments in (("python", ""), ("fairvisor", " -m daemon.cli.main")):
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable}{arguments} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    stamp = f"{ROOT}\n{(ROOT / 'pyproject.toml').read_text()}"
    (folder / ".installed.[quickstart]").write_text(stamp)
    return folder


class Running:
    def __init__(self, folder: Path, venv: Path, **environ: str) -> None:
        # A short path of its own, so that its sockets are, and its processes can be found.
        self.runtime = folder / "rt"
        self.runtime.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FAIRVISOR_")}
        self.log = folder / "said"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*ASKED, ROOT / "scripts/run"],
                env=kept
                | {
                    "PYTHONPATH": str(ROOT),
                    "XDG_RUNTIME_DIR": str(self.runtime),
                    "FAIRVISOR_VENV": str(venv),
                    "FAIRVISOR_OWNER_TIMEOUT_MS": "10000",
                    "PORT": str(self.port),
                    **environ,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def until_greeted(self) -> str:
        def greeted() -> bool:
            assert self.process.poll() is None, self.said()
            return "Ctrl-C stops the daemon." in self.said()

        until(greeted, self.said)
        return self.said()

    def left(self) -> list[str]:
        """Return the processes that have this run's folder in what they were started with."""
        found = []
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                try:
                    given = (path / "environ").read_bytes() + (path / "cmdline").read_bytes()
                except OSError:
                    continue
                if bytes(self.runtime) in given:
                    found.append(path.name)
        return found

    def end(self) -> int:
        """Press Ctrl-C, which reaches the whole process group of a terminal."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(SECONDS)


Start = Callable[..., Running]


@pytest.fixture(name="start")
def _start(tmp_path_factory: pytest.TempPathFactory, venv: Path) -> Iterator[Start]:
    started = []

    def start(**environ: str) -> Running:
        started.append(Running(tmp_path_factory.mktemp("r"), venv, **environ))
        return started[-1]

    yield start
    for running in started:
        running.end()
        try:
            until(lambda each=running: not each.left(), lambda: "processes left")
        finally:
            for pid in running.left():
                os.kill(int(pid), signal.SIGKILL)


def test_it_shows_a_token_budget_refusing_the_sdk_and_leaves_nothing(start: Start) -> None:
    running = start()
    said = running.until_greeted()
    left = [line.rpartition(" ")[2] for line in said.splitlines() if "RateLimit-Remaining" in line]
    assert len(left) >= 2
    assert [int(each) for each in left] == sorted(map(int, left), reverse=True)
    assert "8 + 120 tokens used" in said
    assert "openai.RateLimitError: Error code: 429 - request rejected: tpm_exceeded" in said
    assert f"http://127.0.0.1:{running.port}/v1/decision" in said
    assert "again, once the budget has refilled" in said
    assert running.process.poll() is None
    assert running.end() == 0
    until(lambda: not running.left(), lambda: "processes left")
    assert not list(running.runtime.iterdir())
    assert "Traceback" not in running.said()


def test_a_bundle_of_ones_own_is_served_without_a_provider(start: Start, tmp_path: Path) -> None:
    policy = tmp_path / "mine.json"
    policy.write_text('{"bundle_version": 7, "policies": []}')
    running = start(FAIRVISOR_CONFIG_FILE=str(policy))
    said = running.until_greeted()
    until(lambda: "bundle version 7" in running.said(), running.said)
    assert "OpenAI(" not in said
    assert not list(running.runtime.glob("*-llm-*"))
    assert running.end() == 0


def test_the_provider_ends_with_a_daemon_that_does_not_start(start: Start) -> None:
    running = start(FAIRVISOR_SHARDS="none")
    assert running.process.wait(SECONDS) == 1
    assert "FAIRVISOR_SHARDS" in running.said()
    until(lambda: not running.left(), lambda: "processes left")
    assert not list(running.runtime.iterdir())


def test_the_daemon_that_has_the_port_already_is_not_greeted_for(start: Start) -> None:
    first = start()
    first.until_greeted()
    second = start(PORT=str(first.port))
    assert second.process.wait(SECONDS) == 1
    until(lambda: not second.left(), lambda: "processes left")
    (line,) = second.said().splitlines()
    assert line.startswith(f"fairvisor: FAIRVISOR_LISTEN: 127.0.0.1:{first.port} is already in use")


def test_a_port_that_is_none_is_told_by_the_daemon_alone(start: Start) -> None:
    running = start(PORT="abc")
    assert running.process.wait(SECONDS) == 1
    until(lambda: not running.left(), lambda: "processes left")
    (line,) = running.said().splitlines()
    assert line.startswith("fairvisor: FAIRVISOR_LISTEN: '127.0.0.1:abc' is not host:port")
