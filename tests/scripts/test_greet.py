import contextlib
import http.server
import importlib.util
import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "greet.py"


@pytest.fixture(name="greet")
def _greet(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("greet", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "greet", module)  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


class ReadyHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        del format, args

    def address_string(self) -> str:
        return "peer"


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("listen", "curl"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("[::]:8080", "http://[::1]:8080"),
        ("localhost:9", "http://localhost:9"),
        ("unix:/run/f.sock", "--unix-socket /run/f.sock http://localhost"),
        ("unix:/with space/f.sock", "--unix-socket '/with space/f.sock' http://localhost"),
    ],
)
def test_says_how_to_reach_a_listener(greet: ModuleType, listen: str, curl: str) -> None:
    assert [door.curl for door in greet.doors(listen)] == [curl]


def test_asks_both_kinds_of_listener(greet: ModuleType, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    tcp = socketserver.TCPServer(("127.0.0.1", 0), ReadyHandler)
    unix = socketserver.UnixStreamServer(path, ReadyHandler)
    listen = f"127.0.0.1:{tcp.server_address[1]}, unix:{path}"
    doors = greet.doors(listen)
    with serving(tcp):
        with serving(unix):
            assert [greet.is_ready(door) for door in doors] == [True, True]
        assert [greet.is_ready(door) for door in doors] == [True, False]


def test_greets_once_the_daemon_is_ready(
    greet: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    tcp = socketserver.TCPServer(("127.0.0.1", 0), ReadyHandler)
    base = f"http://127.0.0.1:{tcp.server_address[1]}"
    with serving(tcp):
        greet.main(base.removeprefix("http://"), os.getpid())
    said = capfd.readouterr().out
    assert f"X-Forwarded-For: 10.0.0.1' {base}/v1/decision" in said


def test_what_is_no_address_is_left_to_the_daemon(greet: ModuleType) -> None:
    listen = "127.0.0.1:abc,127.0.0.1:,8080x,127.0.0.1:²,127.0.0.1:1"
    assert [door.curl for door in greet.doors(listen)] == ["http://127.0.0.1:1"]


def test_knows_where_a_process_listens(greet: ModuleType, tmp_path: Path) -> None:
    path = str(tmp_path / "with space")
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.socket(socket.AF_UNIX) as unix,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child,
    ):
        unix.bind(path)
        unix.listen()
        ports = {four.getsockname()[1], other.getsockname()[1]}
        assert {path, *ports} <= greet.listening(os.getpid())
        assert greet.listening(child.pid) == set()
        child.communicate(b"\n")
    assert greet.listening(child.pid) == set()


def test_greets_nobody_for_a_daemon_that_another_process_answers_for(tmp_path: Path) -> None:
    tcp = socketserver.TCPServer(("127.0.0.1", 0), ReadyHandler)
    listen = f"127.0.0.1:{tcp.server_address[1]}"
    demo = tmp_path / "demo.py"
    demo.write_text("print('demonstrated')")
    with (
        serving(tcp),
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as daemon,
        subprocess.Popen(
            [sys.executable, str(SCRIPT), listen, str(daemon.pid), str(demo)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as greeter,
    ):
        with pytest.raises(subprocess.TimeoutExpired):
            greeter.wait(1.0)  # it would have greeted by now
        daemon.communicate(b"\n")
        said, _ = greeter.communicate(timeout=30)
    assert (greeter.returncode, said) == (0, b"")


def test_says_nothing_when_the_daemon_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "unix:/nonexistent/s", str(gone.pid)],
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
