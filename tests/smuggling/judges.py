"""Who else reads the corpus: nginx as a server of its own, and h11 in this process."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h11

from tests.end_with_us import ASKED
from tests.gateways.gateways import executable
from tests.smuggling.wire import Seen, free_port
from tests.upstreams.path_readers import until_listening

NGINX = """\
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 1024; }}
http {{
    log_format seen escape=json '{{"method":"$request_method","target":"$request_uri",'
        '"body":"$request_body","status":"$status"}}';
    client_header_timeout 1s;
    client_body_timeout 1s;
    keepalive_timeout 1s;
    lingering_close off;
    client_max_body_size 0;
    client_body_in_single_buffer on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        access_log {folder}/seen.log seen;
        location / {{ proxy_pass http://unix:{folder}/behind.sock; }}
    }}
    server {{
        listen unix:{folder}/behind.sock;
        access_log off;
        location / {{ return 200; }}
    }}
}}
"""


@contextmanager
def nginx(folder: Path) -> Iterator[tuple[int, Path]]:
    """Run nginx; yield its port and the log of what it has seen."""
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, user=user))
    binary = executable("nginx", "Debian: apt-get install nginx")
    process = subprocess.Popen([*ASKED, binary, "-p", str(folder), "-c", str(config)])
    try:
        until_listening(port)
        yield port, folder / "seen.log"
    finally:
        process.terminate()
        process.wait(20)


def logged(log: Path) -> list[Seen]:
    """Return what nginx took for complete requests, in order."""
    found = []
    for line in log.read_bytes().decode("latin-1").splitlines():
        entry = json.loads(line, strict=False)
        if entry["status"] == "200":
            body = entry["body"].encode("latin-1")
            target = entry["target"]
            # nginx logs the target of `GET http://host?query` without the path that it has.
            target = f"/{target}" if target.startswith("?") else target
            found.append(Seen(entry["method"], target, body))
    return found


def by_h11(raw: bytes) -> list[Seen]:
    """Return the complete requests that h11 reads."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    seen: list[Seen] = []
    method = target = ""
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return seen
        match event:
            case h11.Request():
                method, target = event.method.decode(), event.target.decode("latin-1")
                body = b""
            case h11.Data():
                body += bytes(event.data)
            case h11.EndOfMessage():
                seen.append(Seen(method, _origin_form(target), body))
                connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return seen
                connection.start_next_cycle()
            case _:
                return seen


def _origin_form(target: str) -> str:
    """Return the path of an absolute target, which h11 leaves as it is."""
    found = re.fullmatch(r"[a-z]+://[^/?]*(/?)(.*)", target)
    return f"/{found[2]}" if found else target
