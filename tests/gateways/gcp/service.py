"""A service with the hook before it, as the page says, behind nothing but its own server.

Run by path with the folder that holds hook.py, a port and the upstream that stands for its work.
"""

import http.client
import socketserver
import sys
from collections.abc import Iterable
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer, make_server

folder, port, upstream = sys.argv[1:4]
sys.path.insert(0, folder)
from hook import Fairvisor  # type: ignore[import-not-found] # noqa: E402 - where the test put it


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 - WSGI's
    """Do the service's work: here, have the echo do it."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    headers = {
        name.removeprefix("HTTP_").replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    connection = http.client.HTTPConnection(upstream)
    body = environ["wsgi.input"].read(length)
    connection.request(environ["REQUEST_METHOD"], environ["RAW_URI"], body, headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    fields = [("Content-Type", "application/json"), ("RateLimit-Limit", "the app's own")]
    start_response(f"{answer.status} {answer.reason}", fields)
    return [text]


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread a request."""

    daemon_threads = True
    request_queue_size = 128


class Handler(WSGIRequestHandler):
    """Names the raw target, as gunicorn does."""

    def get_environ(self) -> dict[str, Any]:
        return {**super().get_environ(), "RAW_URI": self.requestline.split()[1]}

    def log_message(self, *_: object) -> None:
        return


ServerHandler.http_version = "1.1"
make_server("127.0.0.1", int(port), Fairvisor(app), Server, Handler).serve_forever()
