"""What a check adds to a gateway: each gateway beside itself without the check.

Both are loaded in turns, so that what else the machine does falls on both.
"""

import contextlib
import dataclasses
import http.client
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import cpu, probe, scenarios, servers
from bench.gateway_programs import GATEWAYS, Gateway
from bench.load import LoadError, Requests, Sample
from bench.measure import WARM_UP_SECONDS, Load, Options
from bench.scenarios import Variant
from bench.servers import Server

ROOT = Path(__file__).parents[1]
CONNECTIONS = (1, 16)
PATH = "/api/items"
CLIENT = "127.0.0.1"
DIRECT = "no gateway"
"""The daemon asked over TCP by the load generator, beside an nginx that answers 200."""
DECISION = "/v1/decision"

Asked = tuple[Server, Mapping[str, str]]
"""A server, and the headers of a question to the daemon; without any it is asked for `PATH`."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The rounds of one gateway at one number of connections, without and with the check."""

    gateway: str
    connections: int
    without: tuple[Sample, ...]
    checked: tuple[Sample, ...]


def variant() -> Variant:
    """Return the bundle: one bucket per client, and a policy that can refuse."""
    headers = scenarios.original(PATH, X_Forwarded_For=CLIENT)
    return Variant(
        "through a gateway",
        scenarios.bundle(scenarios.CLIENTS, scenarios.GATE),
        Requests(headers),
        (scenarios.GATE_REFUSES,),
        {
            "FAIRVISOR_LISTEN": "127.0.0.1:{port},unix:{folder}/fv.sock",
            "FAIRVISOR_ENVOY_LISTEN": "unix:{folder}/envoy.sock",
        },
    )


def measure(options: Options) -> list[Pair]:
    """Load every gateway with and without the check, in turns.

    Raises:
        LoadError: a run failed, or a gateway does not let the daemon decide.
        ProbeError: the daemon did not decide what it was asked.

    """
    chosen = variant()
    pairs: list[Pair] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fv-bench-")))
        folder.chmod(0o755)
        backend = stack.enter_context(servers.nginx(folder / "backend", "backend"))
        daemon = stack.enter_context(
            servers.fairvisor(folder / "daemon", chosen.bundle, chosen.settings, options.command)
        )
        probe.require_refusals(daemon, chosen.refusals)
        pairs += turns(DIRECT, (backend, {}), (daemon, chosen.requests.headers), daemon, options)
        for each in GATEWAYS:
            with contextlib.ExitStack() as own:
                places = (folder / f"{each.name}-{kind}" for kind in ("without", "checked"))
                bare, checked = (
                    own.enter_context(running(each, place, backend, daemon, check=check))
                    for place, check in zip(places, (False, True), strict=True)
                )
                require_check(checked, bare)
                pairs += turns(each.name, (bare, {}), (checked, {}), daemon, options)
    return pairs


@contextlib.contextmanager
def running(
    gateway: Gateway, folder: Path, backend: Server, daemon: Server, *, check: bool
) -> Iterator[Server]:
    """Run a gateway before `backend`, with or without the check."""
    port = free_ports()
    write_configuration(gateway, folder, port, backend, daemon)
    config = folder / gateway.template
    if not check:
        text = config.read_text()
        bare = gateway.unchecked(text)
        if bare == text:
            raise LoadError(f"{gateway.name}: nothing to take out of its configuration")
        config.write_text(bare)
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}
    with servers.running(gateway.command(config), folder, environment) as pid:
        server = Server(f"{gateway.name} {'checked' if check else 'without'}", pid, port)
        servers.await_ready(server, "/", folder)
        yield server


def free_ports() -> int:
    """Return a port that is free, as is the next one, where Traefik asks itself.

    Neither is of those that the kernel gives to outgoing connections.

    Raises:
        LoadError: there is none.

    """
    for _ in range(200):
        port = random.SystemRandom().randrange(15_000, 32_000)
        with contextlib.suppress(OSError):
            for each in (port, port + 1):
                socket.create_server((CLIENT, each)).close()
            return port
    raise LoadError("no two free ports beside each other")


def write_configuration(
    gateway: Gateway, folder: Path, port: int, backend: Server, daemon: Server
) -> None:
    """Have `fairvisor gateway` write what the gateway loads."""
    ways = {
        "unix": f"unix:{folder.parent}/daemon/fv.sock",
        "envoy-unix": f"unix:{folder.parent}/daemon/envoy.sock",
        "tcp": f"127.0.0.1:{daemon.port}",
    }
    command = [sys.executable, "-m", "daemon.cli.main", "gateway", gateway.name]
    options = [
        f"--upstream=http://127.0.0.1:{backend.port}",
        f"--listen=127.0.0.1:{port}",
        f"--daemon={ways[gateway.way]}",
        "--timeout=10000",
        f"--write={folder}",
    ]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FAIRVISOR_")}
    done = subprocess.run(
        [*command, *options],
        env={**inherited, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode:
        raise LoadError(f"{gateway.name}: {done.stderr.strip()}")


def require_check(checked: Server, bare: Server) -> None:
    """Require that the daemon decides for the one and not for the other.

    Raises:
        LoadError: it does not, or does.

    """
    statuses = {
        server.name: [status(server, "/gate") for _ in range(4)] for server in (checked, bare)
    }
    if 429 not in statuses[checked.name] or set(statuses[bare.name]) != {200}:
        raise LoadError(f"not what was to be compared: {statuses}")


def status(server: Server, path: str) -> int:
    """Return the status of one GET."""
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        link.request("GET", path)
        return link.getresponse().status
    finally:
        link.close()


def turns(name: str, bare: Asked, checked: Asked, daemon: Server, options: Options) -> list[Pair]:
    """Warm up, then load both in turns; check that the load was charged."""
    chosen = variant()
    loads = {
        check: Load(server, Requests(headers, path=DECISION if headers else PATH))
        for check, (server, headers) in ((False, bare), (True, checked))
    }
    for each in loads.values():
        each.run(WARM_UP_SECONDS, max(options.connections))
    started = time.monotonic()
    before = probe.remaining(daemon, chosen, 1, 1)
    counted = loads[True].answered, loads[True].cut_off
    samples: dict[tuple[int, bool], list[Sample]] = {}
    for _ in range(options.rounds):
        for connections in options.connections:
            for check, load in loads.items():
                taken = with_daemon(load, daemon, options.seconds, connections)
                samples.setdefault((connections, check), []).append(taken)
    after = probe.remaining(daemon, chosen, 1, 2)
    probe.require_charges(
        before - after - 1,
        loads[True].answered - counted[0],
        loads[True].cut_off - counted[1] + max(options.connections),
        time.monotonic() - started,
    )
    return [
        Pair(name, each, tuple(samples[each, False]), tuple(samples[each, True]))
        for each in options.connections
    ]


def with_daemon(load: Load, daemon: Server, seconds: int, connections: int) -> Sample:
    """Load a server once; its CPU time is that of the server and the daemon together."""
    before = cpu.seconds(cpu.tree(daemon.pid))
    taken = load.run(seconds, connections)
    spent = cpu.seconds(cpu.tree(daemon.pid)) - before
    if load.server.pid == daemon.pid:
        return taken
    return dataclasses.replace(taken, cpu_us=taken.cpu_us + spent * 1e6 / taken.requests)


def medians(pair: Pair) -> dict[str, float]:
    """Return a row's figures, latencies in µs, CPU time in µs a request."""

    def median(samples: tuple[Sample, ...], figure: Callable[[Sample], float]) -> float:
        return statistics.median(map(figure, samples))

    figures: Mapping[str, Callable[[Sample], float]] = {
        "p50": lambda sample: sample.p50_us,
        "p99": lambda sample: sample.p99_us,
        "rate": lambda sample: sample.rate,
        "cpu": lambda sample: sample.cpu_us,
    }
    row = {}
    for name, figure in figures.items():
        row[f"{name} without"] = median(pair.without, figure)
        row[f"{name} checked"] = median(pair.checked, figure)
        row[f"{name} added"] = row[f"{name} checked"] - row[f"{name} without"]
    return row


COLUMNS = {
    "p50 without": "p50 µs",
    "p50 checked": "checked",
    "p50 added": "added",
    "p99 without": "p99 µs",
    "p99 checked": "checked",
    "p99 added": "added",
    "rate without": "req/s",
    "rate checked": "checked",
    "cpu without": "CPU-µs/req",
    "cpu checked": "checked",
    "cpu added": "added",
}


def table(pairs: list[Pair]) -> str:
    """Return the rows as aligned text."""
    lines = [("gateway", "conns", *COLUMNS.values())]
    for pair in pairs:
        row = medians(pair)
        figures = (f"{row[name]:,.0f}" for name in COLUMNS)
        lines.append((pair.gateway, str(pair.connections), *figures))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
