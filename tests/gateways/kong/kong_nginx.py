"""Kong's phases on plain nginx with the Lua module: the plugin runs, Kong is not needed."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
SECONDS = 20.0


@contextmanager
def kong(
    routes: Mapping[str, Mapping[str, object]], backend: int, trusted: Sequence[str] = ()
) -> Iterator[tuple[int, Path]]:
    """Serve `routes` (path prefix: plugin configuration) before a backend; port and error log."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert nginx is not None, "nginx is missing: apt-get install nginx libnginx-mod-http-lua"
    folder = Path(tempfile.mkdtemp(prefix="fv-kong-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    values = {
        "folder": folder, "port": port, "backend": backend, "tests": HERE,
        "plugin": ROOT / "adapters/kong",
        # The daemon's socket is its owner's; nginx's workers would be somebody else.
        "user": f"user {getpass.getuser()};" if os.geteuid() == 0 else "",
    }  # fmt: skip
    text = (HERE / "nginx.conf").read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    (folder / "nginx.conf").write_text(text)
    (folder / "routes.json").write_text(json.dumps({"trusted": trusted, "routes": routes}))
    log = folder / "error.log"
    folder.chmod(0o755)
    process = subprocess.Popen(
        [nginx, "-e", str(log), "-p", str(folder), "-c", str(folder / "nginx.conf")],
        stdin=subprocess.DEVNULL,
    )
    try:
        _await_port(process, port, log)
        yield port, log
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
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
