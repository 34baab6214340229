"""The command line in this process and in one of its own, and a daemon to ask."""

import os
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from threading import Thread
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from daemon.cli.main import main

ROOT = Path(__file__).parents[3]

Run = Callable[..., Result]


@pytest.fixture
def fairvisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty folder; whatever goes wrong, no exception may come out."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FAIRVISOR_")]:
        monkeypatch.delenv(name)

    def run(*arguments: object, stdin: str | bytes | None = None, **environ: str) -> Result:
        result = CliRunner().invoke(main, [str(each) for each in arguments], stdin, env=environ)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert "Traceback" not in result.output
        assert "internal error" not in result.output
        return result

    return run


@pytest.fixture
def command() -> tuple[list[str], dict[str, str]]:
    """The command line for a process of its own, with its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FAIRVISOR_")}
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    kept["PYTHONPATH"] = os.pathsep.join(paths)
    return [sys.executable, "-m", "daemon.cli.main"], kept


@pytest.fixture
def edge() -> Iterator[SimpleNamespace]:
    """Answer over HTTP as a daemon might: `answers` maps paths to (status, text)."""
    answers: dict[str, tuple[int, str]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answers.get(self.path, (404, ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", answers=answers)
    server.shutdown()
    thread.join()
    server.server_close()


class _UnixServer(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """Answer on a Unix socket as a daemon might: `answers` maps "METHOD path" to (status, text).

    `asked` keeps the bodies.
    """
    answers: dict[str, tuple[int, str]] = {}
    asked: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            status, text = answers.get(f"{self.command} {self.path}", (404, "{}"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            return

    path = tmp_path / "admin.sock"
    server = _UnixServer(str(path), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield SimpleNamespace(path=str(path), answers=answers, asked=asked)
    server.shutdown()
    thread.join()
    server.server_close()
