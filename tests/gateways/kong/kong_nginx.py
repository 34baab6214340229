"""Kong's phases on plain nginx with the Lua module: the plugin runs, Kong is not needed."""

import getpass
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_connection

from tests.end_with_us import ASKED

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
SECONDS = 20.0

Routes = Mapping[str, Mapping[str, object]]
"""Plugin configurations by path prefix."""


def command(config: Path) -> list[str]:
    """Run what `fairvisor gateway kong` has written: the configuration and the plugin beside it."""
    text = config.read_text()
    found = re.search(r"proxy_listen = (\S+)$", text, re.MULTILINE)
    service = re.search(r"^ +url: http://(\S+)$", text, re.MULTILINE)
    assert found, text
    assert service, text
    block = text.partition("    config:\n")[2]
    settings = {
        name: _scalar(value)
        for name, value in re.findall(r"^ {6}(\w+): (.*)$", block, re.MULTILINE)
    }
    routes = {"/": settings} if settings else {}
    return write(config.parent, config.parent, found[1], service[1], routes)


def _scalar(text: str) -> object:
    if text in {"true", "false"}:
        return text == "true"
    return int(text) if text.isdigit() else text


def write(  # noqa: PLR0913 - what such a server is made of
    folder: Path,
    plugin: Path,
    listen: str,
    backend: str,
    routes: Routes,
    trusted: Sequence[str] = (),
) -> list[str]:
    """Write a configuration of nginx and return the command that runs it in the foreground."""
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert nginx is not None, "nginx is missing: apt-get install nginx libnginx-mod-http-lua"
    values = {
        "folder": folder, "plugin": plugin, "listen": listen, "backend": backend, "tests": HERE,
        "trusted": "".join(f"set_real_ip_from {each};" for each in trusted),
        # The daemon's socket is its owner's; nginx's workers would be somebody else.
        "user": f"user {getpass.getuser()};" if os.geteuid() == 0 else "",
    }  # fmt: skip
    text = (HERE / "nginx.conf").read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    path = folder / "nginx.conf"
    path.write_text(text)
    (folder / "routes.json").write_text(json.dumps({"trusted": trusted, "routes": routes}))
    return [nginx, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(path)]


@contextmanager
def kong(routes: Routes, backend: int, port: int, trusted: Sequence[str] = ()) -> Iterator[Path]:
    """Serve `routes` on a port before a backend's; the error log."""
    folder = Path(tempfile.mkdtemp(prefix="fv-kong-"))
    log = folder / "error.log"
    listen, service = f"127.0.0.1:{port}", f"127.0.0.1:{backend}"
    process = subprocess.Popen(
        [*ASKED, *write(folder, ROOT / "adapters/kong", listen, service, routes, trusted)],
        stdin=subprocess.DEVNULL,
    )
    try:
        _await_port(process, port, log)
        yield log
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS)
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        with suppress(OSError), create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
