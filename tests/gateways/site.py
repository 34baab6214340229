"""A daemon, a service and a gateway between client and service, all real, on loopback."""

import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from tests.e2e.conftest import Answer, Daemon, wait_for
from tests.end_with_us import ASKED
from tests.gateways import echo
from tests.gateways.echo import Echo
from tests.gateways.gateways import Subject

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 30.0
ANSWER_SECONDS = 60.0
STARTS = 5
"""Attempts to start a gateway; each takes another port."""
UNHURRIED_MS = 20_000
"""The gateway's timeout in tests that are not about it: a loaded machine may be slow."""
CLIENT = "127.0.0.2"
"""The address that clients come from: the daemon trusts 127.0.0.1 only, which gateways have."""

Serve = Callable[..., Daemon]


def free_port() -> int:
    """Return a port that nobody listens on, and that no outgoing connection will be given."""
    for _ in range(200):
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


class Client:
    """A client of the gateway: one kept connection from one address."""

    def __init__(self, port: int, source: str = CLIENT) -> None:
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=ANSWER_SECONDS, source_address=(source, 0)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(
        self,
        target: str,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes | Iterator[bytes] | None = None,
    ) -> Answer:
        """Send one request and return its answer; an iterator of bytes is sent in chunks."""
        given = {"Host": "edge.test", **(headers or {})}
        self._connection.request(
            method, target, body, given, encode_chunked=isinstance(body, Iterator)
        )
        response = self._connection.getresponse()
        body_back = response.read()
        fields = {name.lower(): value for name, value in response.getheaders()}
        assert len(fields) == len(response.getheaders()), f"a field twice: {response.getheaders()}"
        return Answer(response.status, fields, body_back)


@dataclass
class Site:
    """What a test talks to."""

    subject: Subject
    way: str
    daemon: Daemon
    service: Echo
    port: int
    process: "subprocess.Popen[bytes]"
    folder: Path

    def client(self, source: str = CLIENT) -> Client:
        return Client(self.port, source)

    def ask(
        self,
        target: str,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes | Iterator[bytes] | None = None,
        source: str = CLIENT,
    ) -> Answer:
        """Send one request on a connection of its own."""
        with self.client(source) as client:
            return client.ask(target, headers, method, body)

    def told(self, answer: Answer) -> Mapping[str, str]:
        """Return what was said of an allowed request: to its client, or to the service alone."""
        return (
            answer.headers if self.subject.gateway.tells_client else self.service.seen[-1].headers
        )

    def said(self) -> str:
        """Return what the gateway wrote."""
        texts = [path.read_text(errors="replace") for path in self.folder.rglob("*.log")]
        return "\n".join(texts)


@dataclass(frozen=True)
class Address:
    """Where the daemon of a test listens, also after a restart; `grpc` is for Envoy alone."""

    port: int
    path: str
    grpc: bool = False

    @classmethod
    def fresh(cls, folder: Path, subject: Subject | None = None) -> "Address":
        grpc = subject is not None and subject.gateway.asks == "grpc"
        return cls(free_port(), str(folder / "fairvisor.sock"), grpc)

    def settings(self, way: str) -> dict[str, object]:
        """Return the listeners as settings of a daemon."""
        if self.grpc:
            return {"listen": "127.0.0.1:0", "envoy_listen": self.asked(way)}
        return {"listen": f"{self.asked('tcp')},{self.asked('unix')}"}

    def asked(self, way: str) -> str:
        """Return where the gateway asks."""
        return f"unix:{self.path}" if way == "unix" else f"127.0.0.1:{self.port}"


def start_daemon(
    serve: Serve, bundle: object, address: Address, way: str = "tcp", **settings: object
) -> Daemon:
    """Start a daemon that is told that only 127.0.0.1, the gateway, speaks for others."""
    return serve(bundle, **{"trusted_proxies": "127.0.0.1/32"} | address.settings(way) | settings)


@contextmanager
def site(  # noqa: PLR0913 - what a site is made of
    subject: Subject,
    way: str,
    serve: Serve,
    bundle: object,
    *,
    on_failure: str = "closed",
    timeout_ms: int = UNHURRIED_MS,
    address: Address | None = None,
    edit: Callable[[str], str] = str,
    **settings: object,
) -> Iterator[Site]:
    """Run all three; the gateway with what `fairvisor gateway` writes for this daemon.

    `edit` changes the configuration as an operator might.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(short_folder())
        where = address or Address.fresh(folder, subject)
        daemon = start_daemon(serve, bundle, where, way, **settings)
        service = stack.enter_context(echo.running())
        options = [
            f"--upstream={service.url}",
            f"--on-failure={on_failure}",
            f"--timeout={timeout_ms}",
            f"--daemon={where.asked(way)}",
        ]
        port, process = stack.enter_context(_gateway(subject, options, daemon, folder, edit))
        running = Site(subject, way, daemon, service, port, process, folder)
        # Traefik accepts connections before it knows where they go.
        wait_for(
            lambda: running.ask("/ready").status != HTTPStatus.NOT_FOUND, START_SECONDS, "routes"
        )
        service.seen.clear()
        yield running


@contextmanager
def short_folder() -> Iterator[Path]:
    """Make a folder whose path leaves room for a socket's name; pytest's own do not."""
    path = Path(os.path.realpath(tempfile.mkdtemp(prefix="fv-gw-")))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def write_configuration(name: str, options: list[str], daemon: Daemon, folder: Path) -> None:
    """Have `fairvisor gateway` write a configuration, with the daemon's own bundle at hand."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FAIRVISOR_")}
    environ |= {
        "PYTHONPATH": str(ROOT),
        "FAIRVISOR_CONFIG_FILE": str(daemon.folder / "policy.json"),
    }
    command = [sys.executable, "-m", "daemon.cli.main", "gateway", name, *options]
    ran = subprocess.run(
        [*command, f"--write={folder}"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


@contextmanager
def _gateway(
    subject: Subject,
    options: list[str],
    daemon: Daemon,
    folder: Path,
    edit: Callable[[str], str],
) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    for attempt in range(STARTS):
        port = free_port()
        # Another folder each time: what the first attempt wrote must not be taken for the second's.
        files = folder / f"gateway-{attempt}"
        listen = f"--listen=127.0.0.1:{port}"
        write_configuration(subject.name, [*options, listen], daemon, files)
        config = files / subject.gateway.template
        config.write_text(edit(config.read_text()))
        command = [*ASKED, *subject.command(config)]
        with (folder / "gateway.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=files, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            if _accepts(port, process):
                yield port, process
                return
        finally:
            _stop(process)
    raise AssertionError(f"{subject.name}: {(folder / 'gateway.log').read_text(errors='replace')}")


def _accepts(port: int, process: "subprocess.Popen[bytes]") -> bool:
    """Wait until the gateway accepts connections; False if it ended instead."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None:
        assert time.monotonic() < deadline, "the gateway does not accept connections"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return True
        time.sleep(0.05)
    return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def replace_bundle(site: Site, bundle: Mapping[str, Any], version: int) -> None:
    """Put a new bundle in place and wait until the daemon has switched to it."""
    new = site.daemon.folder / "new"
    new.write_text(json.dumps({**bundle, "bundle_version": version}))
    new.replace(site.daemon.folder / "policy.json")
    wait_for(
        lambda: f"bundle_applied: version {version} " in site.daemon.said(),
        START_SECONDS,
        f"version {version} in force",
    )
