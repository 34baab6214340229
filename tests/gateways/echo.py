"""The service behind the gateway: says what reached it, and counts."""

import base64
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Seen:
    """One request as it reached the service. Header names in lower case; the last of equal ones."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What a path answers instead of the echo."""

    content_type: str
    body: bytes
    status: int = 200


@dataclass
class Echo:
    """A running service. `replies` by path; `seen` in order of arrival."""

    port: int
    seen: list[Seen] = field(default_factory=list)
    replies: dict[str, Reply] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def at(self, path: str) -> list[Seen]:
        """Return the requests whose path is `path`."""
        return [each for each in self.seen if each.target.partition("?")[0] == path]


@contextmanager
def running() -> Iterator[Echo]:
    """Run a service on a port of 127.0.0.1."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.echo = Echo(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.echo
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a gateway keeps its connections
    request_queue_size = 128
    echo: Echo

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a gateway may reset what it kept
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    server: _Server
    wbufsize = -1  # one write, or Nagle and delayed acknowledgements take 40 ms

    def _answer(self) -> None:
        echo = self.server.echo
        target = self.requestline.split()[1]  # self.path has leading slashes folded
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Seen(self.command, target, headers, self._body())
        echo.seen.append(request)
        reply = echo.replies.get(target.partition("?")[0]) or _described(request)
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            continue
        return b"".join(pieces)

    def log_message(self, *_: object) -> None:
        return


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
    setattr(_Handler, f"do_{_method}", _Handler._answer)


def _described(request: Seen) -> Reply:
    document = {
        "method": request.method,
        "target": request.target,
        "headers": request.headers,
        "body": base64.b64encode(request.body).decode(),
    }
    return Reply("application/json", json.dumps(document).encode())
