"""The real daemon in processes of its own, and a plain HTTP client for its sockets."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from tests.end_with_us import KILLED

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 20.0
ANSWER_SECONDS = 30.0
POLL_SECONDS = 0.02


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Return once `condition` holds; fail when that takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(POLL_SECONDS)


@dataclass
class Answer:
    """One HTTP response. Header names in lower case."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Connection:
    """A client connection: bytes out, bytes or answers in."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_SECONDS)
        self._buffer = b""
        try:
            self.sock.connect(address)
        except OSError:
            self.sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def ask(
        self,
        target: str = "/v1/decision",
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes = b"",
    ) -> None:
        """Send one request without waiting for its answer."""
        lines = [f"{method} {target} HTTP/1.1", "Host: edge.test"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join((*lines, "", "")).encode() + body)

    def request(
        self,
        target: str = "/v1/decision",
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes = b"",
    ) -> Answer:
        """Send one request and return its answer."""
        self.ask(target, headers, method, body)
        return self.answer(bodyless=method == "HEAD")

    def answer(self, *, bodyless: bool = False) -> Answer:
        """Read one response.

        Raises:
            EOFError: the other side closed instead.
        """
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._more()
        lines = self._buffer[:end].decode().split("\r\n")
        self._buffer = self._buffer[end + 4 :]
        pairs = (line.split(": ", 1) for line in lines[1:])
        answer = Answer(int(lines[0].split()[1]), {name.lower(): value for name, value in pairs})
        size = 0 if bodyless else int(answer.headers.get("content-length", 0))
        while len(self._buffer) < size:
            self._more()
        answer.body, self._buffer = self._buffer[:size], self._buffer[size:]
        return answer

    def _more(self) -> None:
        data = self.sock.recv(65_536)
        if not data:
            raise EOFError(f"closed after {self._buffer[:200]!r}")
        self._buffer += data

    def rest(self) -> bytes:
        """Return everything up to the end that the other side makes."""
        with suppress(ConnectionResetError):
            while data := self.sock.recv(65_536):
                self._buffer += data
        data, self._buffer = self._buffer, b""
        return data


class Daemon:
    """One running `fairvisor serve`."""

    def __init__(
        self, folder: Path, environ: Mapping[str, str], through: Sequence[str], fds: Sequence[int]
    ) -> None:
        self.folder = folder
        self.log = folder / "stderr"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FAIRVISOR_")}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(folder),
            "FAIRVISOR_LISTEN": "127.0.0.1:0",
            "XDG_STATE_HOME": str(folder / "xdg-state"),
            "FAIRVISOR_STATE_DIR": str(folder / "state"),
            "FAIRVISOR_WORKER_PROCESSES": "1",
            "FAIRVISOR_SHARDS": "1",
            # On a loaded machine a shard may be slow; only tests of that want to see it.
            "FAIRVISOR_OWNER_TIMEOUT_MS": "10000",
            # The default is one for the whole machine; here many daemons run beside each other.
            "FAIRVISOR_ADMIN_SOCKET": str(folder / "admin.sock"),
            **environ,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*KILLED, *through, sys.executable, "-m", "daemon.cli.main", "serve"],
                cwd=folder,
                pass_fds=fds,
                env={name: value for name, value in environment.items() if value},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.port = 0

    @property
    def unix(self) -> str:
        """The path that tests listen at if they listen at one."""
        return str(self.folder / "fv.sock")

    @property
    def admin(self) -> str:
        """The path of the admin socket."""
        return str(self.folder / "admin.sock")

    def said(self) -> str:
        """Return what it wrote to standard error."""
        return self.log.read_text(errors="replace")

    def until_ready(self) -> Self:
        """Wait until every process serves."""

        def ready() -> bool:
            assert self.process.poll() is None, (
                f"ended with {self.process.returncode}: {self.said()}"
            )
            return "ready on " in self.said()

        wait_for(ready, START_SECONDS, "ready")
        found = re.search(r"127\.0\.0\.1:(\d+)", self.said())
        self.port = int(found[1]) if found else 0
        with self.connect() as connection:
            assert connection.request("/readyz").status == 200
        return self

    def connect(self, way: str = "tcp") -> Connection:
        """Return a new connection over `tcp`, `unix` or `admin`."""
        paths = {"unix": self.unix, "admin": self.admin}
        return Connection(paths.get(way) or ("127.0.0.1", self.port))

    def connect_at(self, path: str) -> Connection:
        """Return a new connection to a Unix socket of the daemon."""
        return Connection(path)

    def decide(self, uri: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for one decision on a connection of its own."""
        with self.connect() as connection:
            return connection.request(headers={"X-Original-URI": uri, **(headers or {})})

    def pids(self) -> dict[str, int]:
        """Return the processes by title without its prefix, as `ps` shows them."""
        titles = {pid: _title(pid) for pid in self.all_pids()}
        return {
            title.removeprefix("fairvisor: "): pid
            for pid, title in titles.items()
            if title.startswith("fairvisor: ")
        }

    def all_pids(self) -> list[int]:
        """Return every process that runs in the daemon's folder, whoever its parent is."""
        return [int(p.name) for p in Path("/proc").iterdir() if _runs_in(p, self.folder)]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)

    def end(self) -> None:
        """Stop it if it runs; nothing of it may be left, and nothing went wrong unseen."""
        code = 0
        try:
            if self.process.poll() is None:
                code = self.stop()
            wait_for(lambda: not self.all_pids(), 5.0, "every process gone")
        finally:
            for pid in self.all_pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
        assert code == 0, self.said()
        assert "Traceback" not in self.said()


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].decode()
    except OSError:
        return ""


def _runs_in(process: Path, folder: Path) -> bool:
    if not process.name.isdigit():
        return False
    try:
        return (process / "cwd").readlink() == folder
    except OSError:
        return False


Serve = Callable[..., Daemon]


def _starter(stack: ExitStack) -> Serve:
    def serve(  # noqa: PLR0913 - all that a daemon can be started with
        bundle: object = None,
        *,
        ready: bool = True,
        unix: bool = False,
        tmpdir: Path | None = None,
        python_path: Path | None = None,
        through: Sequence[str] = (),
        fds: Sequence[int] = (),
        plain: Mapping[str, str] | None = None,
        **environ: object,
    ) -> Daemon:
        """Start a daemon. `bundle`: a document, or the very text of the file.

        `environ` are variables without their prefix, in lower case, and `plain` others;
        `python_path` is a folder whose modules go before all others. `through` is a program that
        starts the daemon, `fds` are descriptors that it inherits.
        """
        folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="fv-e2e-")))
        stack.callback(shutil.rmtree, folder)
        variables = {f"FAIRVISOR_{name.upper()}": str(value) for name, value in environ.items()}
        variables |= plain or {}
        if tmpdir is not None:
            variables["TMPDIR"] = str(tmpdir)
        if python_path is not None:
            variables["PYTHONPATH"] = f"{python_path}:{ROOT}"
        if unix:
            listen = variables.get("FAIRVISOR_LISTEN", "127.0.0.1:0")
            variables["FAIRVISOR_LISTEN"] = f"{listen},unix:{folder / 'fv.sock'}"
        if bundle is not None:
            path = folder / "policy.json"
            path.write_text(bundle if isinstance(bundle, str) else json.dumps(bundle))
            variables["FAIRVISOR_CONFIG_FILE"] = str(path)
        daemon = Daemon(folder, variables, through, fds)
        stack.callback(daemon.end)
        return daemon.until_ready() if ready else daemon

    return serve


@pytest.fixture(name="serve")
def _serve() -> Iterator[Serve]:
    """Start daemons for one test; end them and look for what they left."""
    with ExitStack() as stack:
        yield _starter(stack)


@pytest.fixture(name="serve_all", scope="module")
def _serve_all() -> Iterator[Serve]:
    """Start daemons for all tests of a module."""
    with ExitStack() as stack:
        yield _starter(stack)


def bucket(policy: str, prefix: str, key: str, rate: float, burst: int) -> dict[str, Any]:
    """Return a policy with one token bucket."""
    return {
        "id": policy,
        "spec": {
            "selector": {"pathPrefix": prefix},
            "rules": [
                {
                    "name": "bucket",
                    "limit_keys": [key],
                    "algorithm": "token_bucket",
                    "algorithm_config": {"tokens_per_second": rate, "burst": burst},
                }
            ],
        },
    }


@pytest.fixture(name="bucket_policy", scope="session")
def _bucket_policy() -> Callable[..., dict[str, Any]]:
    return bucket


@pytest.fixture(name="wait_until", scope="session")
def _wait_until() -> Callable[..., None]:
    return wait_for
