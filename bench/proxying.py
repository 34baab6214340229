"""Measure proxies beside each other: whole answers, streams, and the time to the first byte.

All of a scenario's servers run for the whole of it and are loaded in turns. The upstream is a
process of its own whose CPU time counts for nobody.
"""

import contextlib
import dataclasses
import http.client
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import canned_llm, cpu, probe, proxies
from bench.load import LoadError, Run, Sample, read_sample
from bench.measure import WARM_UP_SECONDS, Options, Row
from bench.scenarios import Refusal
from bench.servers import Server
from bench.stream_load import Job

SCRIPT = Path(__file__).with_name("post.lua")
STREAM_TOKENS = 400
STREAM_PACE = 0.005
RESERVED = 700
"""Tokens: above what a request reserves, its `max_tokens` and the estimate of its prompt."""
LITELLM_SECONDS = 10
TIMED_TOKENS = 1
TIMED_RATE = 120.0
CLIENT = {"X-Forwarded-For": "198.51.100.7"}
_GATE = Refusal({"X-Forwarded-For": "192.0.2.1"}, 3, 429, "rate_limit_exceeded")


@dataclass(frozen=True, slots=True)
class Target:
    """One way through a server: the path tells the daemon which policy matches."""

    name: str
    server: Server
    path: str
    metered: bool = False


@contextlib.contextmanager
def targets(
    folder: Path, upstream: int, options: Options, *, buffering: bool
) -> Iterator[list[Target]]:
    """Run nginx, the daemon and, if asked for, LiteLLM before an upstream."""
    with contextlib.ExitStack() as stack:
        floor = stack.enter_context(
            proxies.nginx_proxy(folder / "nginx", upstream, buffering=buffering)
        )
        ours = stack.enter_context(
            proxies.daemon_proxy(folder / "daemon", upstream, options.command)
        )
        found = [
            Target("nginx", floor, proxies.CHAT),
            Target("fairvisor", ours, proxies.FREE + proxies.CHAT),
            Target("fairvisor, token budget", ours, proxies.CHAT, metered=True),
        ]
        if not buffering:
            path = proxies.EXACT + proxies.CHAT
            found.append(Target("fairvisor, budget, tokenizer", ours, path, metered=True))
        if options.litellm is not None:
            server = stack.enter_context(
                proxies.litellm(folder / "litellm", upstream, options.litellm)
            )
            found.append(Target("litellm", server, proxies.CHAT))
        yield found


def tokens_charged(server: Server) -> int:
    """Return the tokens that the daemon says were used, over all rules."""
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        link.request("GET", "/metrics")
        lines = link.getresponse().read().decode().splitlines()
    finally:
        link.close()
    actual = [line for line in lines if "token" in line and 'type="actual"' in line]
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in actual))


@contextlib.contextmanager
def settlements_checked(target: Target, tokens: Callable[[], tuple[int, int]]) -> Iterator[None]:
    """Check that the load in between is settled by what the upstream reported.

    `tokens` tells afterwards how many that must be at least, and at most.

    Raises:
        ProbeError: it was not.
    """
    before = tokens_charged(target.server)
    yield
    low, high = tokens()
    spent = tokens_charged(target.server) - before
    if not low <= spent <= high:
        raise probe.ProbeError(f"{target.name}: {spent} tokens settled, not {low} to {high}")


# whole answers


def post(target: Target, file: Path, run: Run) -> Sample:
    """POST a body again and again with one thread of wrk.

    Raises:
        LoadError: a request failed, or a process of the server came or went.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        sys.exit("wrk is not installed (Debian: apt-get install wrk)")
    command = [wrk, "-t1", f"-c{run.connections}", f"-d{run.seconds}s", "--timeout", "30s"]
    command += ["-s", str(SCRIPT), f"http://127.0.0.1:{target.server.port}", "--"]
    command += [target.path, str(file), *(f"{name}: {value}" for name, value in CLIENT.items())]
    with accounted(target) as spent:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise LoadError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    return read_sample(target.name, done.stdout, run, spent[0])


@contextlib.contextmanager
def accounted(target: Target) -> Iterator[list[float]]:
    """Give the CPU seconds that the server takes in between.

    Raises:
        LoadError: a process of the server came or went.
    """
    before = cpu.tree(target.server.pid)
    spent: list[float] = []
    yield spent
    after = cpu.tree(target.server.pid)
    if {process.pid for process in before} != {process.pid for process in after}:
        raise LoadError(f"{target.name}: a process ended or started under load")
    spent.append(cpu.seconds(after) - cpu.seconds(before))


def seconds_for(target: Target, seconds: int) -> int:
    """Return how long a run takes: LiteLLM may need seconds for its first answers."""
    return max(seconds, LITELLM_SECONDS) if target.name == "litellm" else seconds


def whole_answers(options: Options, connections: int = 64) -> list[Row]:
    """Measure requests whose answer is one JSON document."""
    each = canned_llm.PROMPT_TOKENS + canned_llm.COMPLETION_TOKENS
    with workplace() as folder, contextlib.ExitStack() as stack:
        upstream = stack.enter_context(
            proxies.answering(folder / "upstream", canned_llm.whole_answer())
        )
        found = stack.enter_context(targets(folder, upstream, options, buffering=True))
        file = folder / "body.json"
        file.write_text(proxies.body(stream=False))
        samples: dict[str, list[Sample]] = {target.name: [] for target in found}
        for target in found:
            require_gate(target)
            post(target, file, Run(seconds_for(target, WARM_UP_SECONDS), connections, 0))
        for _ in range(options.rounds):
            for target in found:
                run = Run(seconds_for(target, options.seconds), connections, 0)
                with contextlib.ExitStack() as checks:
                    taken = samples[target.name]
                    if target.metered:
                        # What wrk cuts off at its end is settled as reserved, some of it late.
                        checks.enter_context(
                            settlements_checked(
                                target,
                                lambda taken=taken: (  # type: ignore[misc]
                                    taken[-1].requests * each,
                                    taken[-1].requests * each + 2 * connections * RESERVED,
                                ),
                            )
                        )
                    taken.append(post(target, file, run))
        for target in found:
            require_gate(target)
    return [Row("answers", name, connections, tuple(taken)) for name, taken in samples.items()]


# streams


def read(target: Target, connections: int, streams: int) -> Sample:
    """Read streams at the upstream's pace; figures are per chunk, p50 and p99 to the first byte.

    Raises:
        LoadError: a stream was not whole, or a process of the server came or went.
    """
    job = Job(
        [target.server.port],
        target.path,
        proxies.body(stream=True),
        CLIENT,
        connections=connections,
        streams=streams,
    )
    with accounted(target) as spent:
        figures = run_job(job)
    if target.name != "litellm" and figures["chunks"] != connections * streams * STREAM_TOKENS:
        raise LoadError(f"{target.name}: chunks got lost: {figures}")
    return Sample(
        requests=figures["chunks"],
        cut_off=0,
        rate=figures["chunks"] / figures["seconds"],
        p50_us=figures["p50_us"],
        p99_us=figures["p99_us"],
        cpu_us=spent[0] * 1e6 / figures["chunks"],
    )


def streams(options: Options, connections: int = 64) -> list[Row]:
    """Measure the cost of a stream's chunks, every one of them read and written on its own."""
    each = canned_llm.PROMPT_TOKENS + STREAM_TOKENS
    count = max(1, round(options.seconds / (STREAM_TOKENS * STREAM_PACE)))
    with workplace() as folder, contextlib.ExitStack() as stack:
        upstream = stack.enter_context(
            proxies.streaming(folder / "upstream", STREAM_TOKENS, STREAM_PACE)
        )
        found = stack.enter_context(targets(folder, upstream, options, buffering=False))
        samples: dict[str, list[Sample]] = {target.name: [] for target in found}
        for target in found:
            require_gate(target)
            read(target, 2, 1)
        for _ in range(options.rounds):
            for target in found:
                with contextlib.ExitStack() as checks:
                    if target.metered:
                        settled = connections * count * each
                        checks.enter_context(
                            settlements_checked(target, lambda n=settled: (n, n))  # type: ignore[misc]
                        )
                    each_reads = 1 if target.name == "litellm" else count
                    samples[target.name].append(read(target, connections, each_reads))
        for target in found:
            require_gate(target)
    return [Row("chunks", name, connections, tuple(taken)) for name, taken in samples.items()]


# first bytes


def first_bytes(options: Options, connections: int = 1) -> list[Row]:
    """Measure the time to the first byte of a stream at a low fixed rate, direct and proxied."""
    rows: dict[str, list[Sample]] = {}
    with workplace() as folder, contextlib.ExitStack() as stack:
        upstream = stack.enter_context(
            proxies.streaming(folder / "upstream", TIMED_TOKENS, STREAM_PACE)
        )
        # LiteLLM would take all of a small machine at this rate, and the others' time with it.
        alone = dataclasses.replace(options, litellm=None)
        found = stack.enter_context(targets(folder, upstream, alone, buffering=False))
        names = {
            str(upstream): "direct",
            **{str(each.server.port): each.name for each in found if each.path == proxies.CHAT},
        }
        job = Job(
            [int(port) for port in names],
            proxies.CHAT,
            proxies.body(stream=True),
            CLIENT,
            rate=TIMED_RATE,
            seconds=float(options.seconds * len(names)),
        )
        for _ in range(options.rounds):
            before = {each.server.port: cpu.tree(each.server.pid) for each in found}
            figures = run_job(job)
            spent = {
                str(each.server.port): cpu.seconds(cpu.tree(each.server.pid))
                - cpu.seconds(before[each.server.port])
                for each in found
            }
            requests = int(job.rate * job.seconds / len(names))
            for port, name in names.items():
                rows.setdefault(name, []).append(
                    Sample(
                        requests=requests,
                        cut_off=0,
                        rate=job.rate / len(names),
                        p50_us=figures[port]["p50_us"],
                        p99_us=figures[port]["p99_us"],
                        cpu_us=spent.get(port, 0.0) * 1e6 / requests,
                    )
                )
    return [Row("first byte", name, connections, tuple(taken)) for name, taken in rows.items()]


# shared


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Give a folder for servers' files."""
    with tempfile.TemporaryDirectory(prefix="fv-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx started as root looks into it as another user
        yield folder


def run_job(job: Job) -> dict[str, Any]:
    """Run the client of streams in a process of its own; return its figures.

    Raises:
        LoadError: it failed.
    """
    command = [sys.executable, "-m", "bench.stream_load", json.dumps(dataclasses.asdict(job))]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=600, cwd=proxies.ROOT
    )
    if done.returncode != 0:
        raise LoadError(done.stderr.strip()[-500:])
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def require_gate(target: Target) -> None:
    """Require that the daemon refuses what it has to refuse; others cannot.

    Raises:
        ProbeError: it did not.
    """
    if target.server.name != "fairvisor":
        return
    for _ in range(_GATE.within):
        link = http.client.HTTPConnection("127.0.0.1", target.server.port, timeout=10)
        try:
            link.request("GET", "/gate", headers=dict(_GATE.headers))
            answer = link.getresponse()
            status, reason = answer.status, answer.getheader("X-Fairvisor-Reason", "")
        finally:
            link.close()
    if (status, reason) != (_GATE.status, _GATE.reason):
        raise probe.ProbeError(f"expected {_GATE}, got {status} {reason}")


SCENARIOS: dict[str, tuple[str, Callable[[Options], list[Row]]]] = {
    "proxy": ("one request and its whole answer through each proxy", whole_answers),
    "streams": ("CPU time by chunk of paced streams; p50 and p99 to the first byte", streams),
    "first-byte": (
        "time to the first byte of a stream at a low rate; direct is first",
        first_bytes,
    ),
}
