"""Upstreams that read paths in their own ways, each with one page that is not for everybody."""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from tests.end_with_us import ASKED
from tests.gateways.gateways import executable

START_SECONDS = 30.0
PAGE = b"the page of the administrators"
ITSELF = PAGE + b" itself"
"""What stands at /admin and nowhere else."""

_NGINX = """\
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 256; }}
http {{
    access_log off;
    default_type text/plain;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ root {folder}/site; }}
        location /admin/ {{ return 200 "{page}"; }}
        location = /admin {{ return 200 "{page} itself"; }}
    }}
}}
"""


def until_listening(port: int) -> None:
    """Return once somebody listens at a port of 127.0.0.1; fail when that takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"nobody listens at {port}"
            time.sleep(0.02)
        else:
            return


@contextmanager
def nginx(folder: Path) -> Iterator[int]:
    """Run nginx, which decodes, resolves and folds before it chooses a location."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    site = folder / "site"
    site.mkdir()
    (site / "index.html").write_text("anybody's")
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, user=user, page=PAGE.decode()))
    binary = executable("nginx", "Debian: apt-get install nginx")
    process = subprocess.Popen([*ASKED, binary, "-p", str(folder), "-c", str(config)])
    try:
        until_listening(port)
        yield port
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def files(folder: Path) -> Iterator[int]:
    """Run the server of files that Python comes with."""
    (folder / "admin").mkdir(parents=True)
    (folder / "admin/index.html").write_bytes(PAGE)
    (folder / "admin/users").write_bytes(PAGE)
    (folder / "index.html").write_text("anybody's")

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *parts: object) -> None:
            super().__init__(*parts, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            return

    with _running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield port


@contextmanager
def wsgi(*, servlet: bool) -> Iterator[int]:
    """Run an application that is told a decoded path.

    `servlet`: it drops path parameters and resolves dot segments first, as servlet containers do.
    """

    def application(environ: dict[str, str], start_response: object) -> list[bytes]:
        path = environ["PATH_INFO"]
        if servlet:
            kept: list[str] = []
            for segment in path.split("/"):
                name = segment.partition(";")[0]
                if name == "..":
                    kept = kept[:-1]
                elif name not in ("", "."):
                    kept.append(name)
            closed = kept and name in ("", ".", "..")
            path = "/" + "/".join(kept) + ("/" if closed else "")
        itself = path == "/admin"
        start_response("200 OK", [("Content-Type", "text/plain")])  # type: ignore[operator]
        if itself:
            return [ITSELF]
        return [PAGE if path.startswith("/admin/") else b"anybody's"]

    class Handler(WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            return

    server = WSGIServer(("127.0.0.1", 0), Handler)
    server.set_app(application)  # type: ignore[arg-type]
    with _running(server) as port:
        yield port


@contextmanager
def _running(server: ThreadingHTTPServer | WSGIServer) -> Iterator[int]:
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients leave
    if isinstance(server, ThreadingHTTPServer):
        server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        with suppress(OSError):
            server.server_close()
