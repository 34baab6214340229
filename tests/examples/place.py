"""Where an example is run as its reader would: terminals, an offline provider, a real daemon."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from tests.end_with_us import ASKED

ROOT = Path(__file__).parents[2]
SECONDS = 60.0
POLL_SECONDS = 0.02


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Return once `condition` holds; fail when that takes too long."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(POLL_SECONDS)


class Terminal:
    """A command that stays, and what it said."""

    def __init__(self, command: str, folder: Path, environ: Mapping[str, str]) -> None:
        self._log = folder / f"terminal-{time.monotonic_ns()}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*ASKED, "sh", "-euc", command],
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def until(self, words: str) -> Self:
        def there() -> bool:
            assert self.process.poll() is None, self.said()
            return words in self.said()

        wait_for(there, words)
        return self

    def end(self) -> None:
        """Press Ctrl-C; everything that was started here ends."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(SECONDS)
            wait_for(lambda: not _group(self.process.pid), "every process gone")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        assert "Traceback" not in self.said(), self.said()


def _group(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


class Place:
    """A copy of the examples where ports are free ones, with the product on the path."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self.provider_port, self.port = _free_ports(2)
        shutil.copytree(ROOT / "examples", folder / "examples")
        for path in (folder / "examples").rglob("*.env"):
            path.write_text(self.with_ports(path.read_text()))
        commands = folder / "bin"
        commands.mkdir()
        for name, arguments in (("fairvisor", " -m daemon.cli.main"), ("python", "")):
            (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable}{arguments} "$@"\n')
            (commands / name).chmod(0o755)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FAIRVISOR_")}
        self.environ = kept | {
            "PATH": f"{commands}:{kept['PATH']}",
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(folder),
            "FAIRVISOR_LISTEN": f"127.0.0.1:{self.port}",
            "FAIRVISOR_ADMIN_SOCKET": "none",  # the default is one for the whole machine
            "FAIRVISOR_WORKER_PROCESSES": "1",
            "FAIRVISOR_OWNER_TIMEOUT_MS": "10000",  # a loaded machine must not decide
        }

    def with_ports(self, text: str) -> str:
        """Return a text of the examples with the ports of this place."""
        text = text.replace("127.0.0.1:9000", f"127.0.0.1:{self.provider_port}")
        return text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")

    def terminal(self, command: str, ready: str) -> Terminal:
        """Start a command that stays, and wait until it says that it is ready."""
        started = Terminal(self.with_ports(command), self.folder, self.environ)
        self._stack.callback(started.end)
        return started.until(ready)

    def provider(self) -> None:
        """Start the offline provider where this place has it."""
        self.terminal(
            f"exec python examples/quickstart/upstream.py --listen 127.0.0.1:{self.provider_port}",
            "offline LLM provider on",
        )

    def run(self, command: str) -> str:
        """Run a command to its end and return what it printed."""
        ran = subprocess.run(
            ["sh", "-euc", self.with_ports(command)],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
        return ran.stdout
