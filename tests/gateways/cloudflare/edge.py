"""Cloudflare's edge for a Worker: workerd behind an nginx that names the client.

Run by path with the folder of the written files, workerd's path and nginx's; ends both with itself.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
import tomllib
from functools import partial
from pathlib import Path

NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_max_body_size 20m;
    client_body_buffer_size 1m;  # sent in one go: workerd may close before it has read all
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    underscores_in_headers on;
    # A connection each: workerd answers without reading a long body, says that it keeps the
    # connection, and closes it.
    upstream worker {{ server unix:{folder}/worker.sock; }}
    server {{
        listen {listen};
        location / {{
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header CF-Connecting-IP $remote_addr;
            proxy_read_timeout 60s;
            proxy_pass http://worker;
        }}
    }}
}}
"""

WORKERD = """\
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "worker", worker = .worker),
    (name = "internet", network = (allow = ["public", "private", "local"])),
  ],
  sockets = [(name = "http", address = "unix:{folder}/worker.sock", http = (), service = "worker")],
);
const worker :Workerd.Worker = (
  modules = [(name = "worker.js", esModule = embed "{main}")],
  compatibilityDate = "{date}",
  bindings = [{bindings}],
);
"""


PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel end this process with its parent, also when that is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def main() -> None:
    end_with_parent(signal.SIGTERM)
    folder, workerd, nginx = Path(sys.argv[1]), *sys.argv[2:4]
    settings = tomllib.loads((folder / "wrangler.toml").read_text())
    listen = f"{settings['dev']['ip']}:{settings['dev']['port']}"
    bindings = ", ".join(
        f'(name = "{name}", text = "{value}")' for name, value in settings["vars"].items()
    )
    (folder / "config.capnp").write_text(
        WORKERD.format(
            folder=folder,
            main=settings["main"],
            date=settings["compatibility_date"],
            bindings=bindings,
        )
    )
    (folder / "nginx.conf").write_text(
        NGINX.format(folder=folder, listen=listen).replace(
            "daemon off;", "daemon off;\nuser root;" if os.geteuid() == 0 else "daemon off;"
        )
    )
    children: list[subprocess.Popen[bytes]] = []

    def end(*_: object) -> None:
        for child in children:
            child.kill()  # asked politely, workerd waits for whoever is still connected

    signal.signal(signal.SIGTERM, end)
    start = partial(subprocess.Popen[bytes], preexec_fn=end_with_parent)
    children.append(start([workerd, "serve", str(folder / "config.capnp")]))
    while not (folder / "worker.sock").is_socket():
        if children[0].poll() is not None:
            sys.exit("workerd ended")
        time.sleep(0.02)
    children.append(start([nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")]))
    for child in children:
        child.wait()
    end()


main()
