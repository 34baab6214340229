"""Start and stop the servers that are compared, each in a folder of its own."""

import contextlib
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import cpu

READY_SECONDS = 30.0
STOP_SECONDS = 10.0
_END_WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")
"""Servers end with a run that is killed."""

NGINX_CONFIG = """\
daemon off;
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    {http}
    server {{
        listen 127.0.0.1:{port};
        location / {{ {location} }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, listening on a port of 127.0.0.1."""

    name: str
    pid: int
    port: int


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextlib.contextmanager
def nginx(
    folder: Path, name: str = "nginx", *, location: str = "return 200;", http: str = ""
) -> Iterator[Server]:
    """Run an nginx of one worker that by default answers 200 to everything."""
    binary = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if binary is None:
        sys.exit("nginx is not installed (Debian: apt-get install nginx)")
    folder.mkdir()
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(folder=folder, port=port, location=location, http=http))
    with running([binary, "-p", str(folder), "-c", str(config)], folder, os.environ) as pid:
        server = Server(name, pid, port)
        await_listening(server, folder)
        yield server


@contextlib.contextmanager
def fairvisor(
    folder: Path, bundle: Mapping[str, object], settings: Mapping[str, str], command: str | None
) -> Iterator[Server]:
    """Run a daemon of one front and one shard on `bundle`.

    `settings` are further environment variables; "{folder}" and "{port}" in a value become the
    server's.
    `command` is another build to start, by default this environment's `fairvisor serve`.
    """
    folder.mkdir()
    port = free_port()
    policy = folder / "policy.json"
    policy.write_text(json.dumps(bundle))
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FAIRVISOR_")}
    environment = inherited | {
        "FAIRVISOR_ADMIN_SOCKET": str(folder / "admin.sock"),
        "FAIRVISOR_CONFIG_FILE": str(policy),
        "FAIRVISOR_LISTEN": f"127.0.0.1:{port}",
        "FAIRVISOR_LOG_LEVEL": "error",
        "FAIRVISOR_SHARDS": "1",
        "FAIRVISOR_STATE_DIR": "none",
        "FAIRVISOR_WORKER_PROCESSES": "1",
        **{name: value.format(folder=folder, port=port) for name, value in settings.items()},
    }
    with running(daemon_command(command), folder, environment) as pid:
        server = Server("fairvisor", pid, port)
        await_ready(server, "/readyz", folder)
        yield server


def daemon_command(command: str | None) -> list[str]:
    """Return the words that start a daemon."""
    if command is not None:
        return shlex.split(command)
    binary = Path(sys.executable).with_name("fairvisor")
    if not binary.exists():
        sys.exit(f"{binary} does not exist: install the project first (scripts/bench does)")
    return [str(binary), "serve"]


@contextlib.contextmanager
def running(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """Run `command` with its output in a file of `folder`; yield its process id."""
    with (folder / "output").open("wb") as output:
        child = subprocess.Popen(
            [*_END_WITH_US, *command],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield child.pid
        finally:
            stop(child)


def stop(child: "subprocess.Popen[bytes]") -> None:
    """End a server: SIGTERM, and after a while SIGKILL to whatever is left of its processes."""
    processes = cpu.tree(child.pid)
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(STOP_SECONDS)
    for process in processes:
        if process_is_alive(process):
            os.kill(process.pid, signal.SIGKILL)
    child.wait()


def process_is_alive(process: cpu.Process) -> bool:
    """Tell whether `process` still runs, and is not another that took over its id."""
    try:
        line = (cpu.PROC / str(process.pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return cpu.parse_stat(line).started == process.started


def await_ready(server: Server, path: str, folder: Path, seconds: float = READY_SECONDS) -> None:
    """Wait until `path` answers 200; exit with the server's last words if it never does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and cpu.tree(server.pid):
        with contextlib.suppress(OSError, http.client.HTTPException):
            if get_status(server.port, path) == http.HTTPStatus.OK:
                return
        time.sleep(0.05)
    words = (folder / "output").read_text(errors="replace")[-2000:]
    sys.exit(f"{server.name} did not become ready:\n{words}")


def await_listening(server: Server, folder: Path) -> None:
    """Wait until the port takes connections; exit with the server's last words if it never does."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and cpu.tree(server.pid):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", server.port), 5).close()
            return
        time.sleep(0.05)
    words = (folder / "output").read_text(errors="replace")[-2000:]
    sys.exit(f"{server.name} did not start to listen:\n{words}")


def get_status(port: int, path: str) -> int:
    """Return the status of one GET."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        link.request("GET", path)
        return link.getresponse().status
    finally:
        link.close()
