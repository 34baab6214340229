"""Load a server with wrk and account for every request and every CPU tick."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench import cpu
from bench.servers import Server

SCRIPT = Path(__file__).with_name("request.lua")
MARK = "BENCH "

Order = Literal["random", "sequential"]


@dataclass(frozen=True, slots=True)
class Requests:
    """What is sent: headers, whose values may hold "{key}" and "{serial}" (see request.lua)."""

    headers: Mapping[str, str]
    keys: int = 1
    path: str = "/v1/decision"


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of wrk. Latencies in µs; `cpu_us` is the server's CPU time per request, in µs.

    `requests` were answered; up to `cut_off` more were under way when the run ended.
    """

    requests: int
    cut_off: int
    rate: float
    p50_us: float
    p99_us: float
    cpu_us: float


class LoadError(Exception):
    """A run whose figures mean nothing: requests failed, or a server process was replaced."""


@dataclass(frozen=True, slots=True)
class Run:
    """How one run is made. `first` is the first serial number; runs must not share any."""

    seconds: int
    connections: int
    first: int
    order: Order = "random"


def load(server: Server, requests: Requests, run: Run) -> Sample:
    """Run wrk with one thread against `server`.

    Raises:
        LoadError: a request failed or was refused, or a process of the server came or went.

    """
    wrk = shutil.which("wrk")
    if wrk is None:
        sys.exit("wrk is not installed (Debian: apt-get install wrk)")
    headers = [f"{name}: {value}" for name, value in requests.headers.items()]
    command = [wrk, "-t1", f"-c{run.connections}", f"-d{run.seconds}s", "--timeout", "10s"]
    command += ["-s", str(SCRIPT), f"http://127.0.0.1:{server.port}", "--"]
    command += [str(requests.keys), str(run.first), run.order, requests.path, *headers]
    before = cpu.tree(server.pid)
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=run.seconds + 60
    )
    after = cpu.tree(server.pid)
    if {process.pid for process in before} != {process.pid for process in after}:
        raise LoadError(f"{server.name}: a process ended or started under load")
    if done.returncode != 0:
        raise LoadError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    return read_sample(server.name, done.stdout, run, cpu.seconds(after) - cpu.seconds(before))


def read_sample(name: str, output: str, run: Run, cpu_seconds: float) -> Sample:
    """Read the line that request.lua printed.

    Raises:
        LoadError: no request was answered, or one failed or was refused.

    """
    line = next(line for line in output.splitlines() if line.startswith(MARK))
    figures = json.loads(line.removeprefix(MARK))
    if figures["requests"] == 0 or figures["refused"] or figures["failed"]:
        raise LoadError(f"{name}: not every request was allowed: {figures}")
    return Sample(
        requests=figures["requests"],
        cut_off=run.connections,
        rate=figures["requests"] / figures["seconds"],
        p50_us=figures["p50_us"],
        p99_us=figures["p99_us"],
        cpu_us=cpu_seconds * 1e6 / figures["requests"],
    )
