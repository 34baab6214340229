"""Measure one variant: nginx and the daemon in turns, with the median of several rounds."""

import contextlib
import dataclasses
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import probe, servers
from bench.load import LoadError, Requests, Run, Sample, load
from bench.scenarios import Variant

WARM_UP_SECONDS = 1
FILL_SECONDS = 5
FILL_RUNS = 60


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how often to measure. `subject` is "fairvisor", or "nginx" to test the bench.

    `litellm` is a virtual environment with LiteLLM's proxy, if that is to be measured, too.
    """

    seconds: int
    rounds: int
    connections: tuple[int, ...]
    subject: str
    command: str | None
    litellm: Path | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """The rounds of one server at one number of connections; figures are their medians."""

    variant: str
    server: str
    connections: int
    samples: tuple[Sample, ...]

    def median(self, figure: Callable[[Sample], float]) -> float:
        """Return the median of `figure` over the rounds."""
        return statistics.median(map(figure, self.samples))


class Load:
    """Load one server run after run, and keep count of what was sent."""

    def __init__(self, server: servers.Server, requests: Requests) -> None:
        self.server = server
        self.requests = requests
        self.answered = 0
        self.cut_off = 0
        self.first = random.SystemRandom().randrange(10**12)

    def run(self, seconds: int, connections: int) -> Sample:
        """Load the server once, with keys in random order."""
        return self._run(Run(seconds, connections, self.first))

    def fill(self) -> None:
        """Send every key at least once.

        Raises:
            LoadError: the server is too slow for that.

        """
        start = self.answered
        for _ in range(FILL_RUNS):
            sample = self._run(Run(FILL_SECONDS, 64, self.first, "sequential"))
            self.first -= sample.cut_off  # go on with the first key that got no answer
            if self.answered - start >= self.requests.keys:
                return
        raise LoadError(f"{self.server.name} did not get through {self.requests.keys} keys")

    def _run(self, run: Run) -> Sample:
        sample = load(self.server, self.requests, run)
        self.answered += sample.requests
        self.cut_off += sample.cut_off
        self.first += sample.requests + sample.cut_off
        return sample


@contextlib.contextmanager
def subject(variant: Variant, options: Options, folder: Path) -> Iterator[servers.Server]:
    """Run the server that is compared with nginx, and check it before and after."""
    if options.subject == "nginx":
        with servers.nginx(folder, "nginx again") as server:
            yield server
        return
    with servers.fairvisor(folder, variant.bundle, variant.settings, options.command) as server:
        probe.require_refusals(server, variant.refusals)
        yield server
        probe.require_refusals(server, variant.refusals)


def measure(variant: Variant, options: Options) -> list[Row]:
    """Load nginx and the subject in turns; return one row a server and number of connections.

    Raises:
        LoadError: a run failed.
        ProbeError: the daemon did not decide what it was asked.

    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fv-bench-")))
        folder.chmod(0o755)  # nginx started as root looks into it as another user
        floor = stack.enter_context(servers.nginx(folder / "nginx"))
        server = stack.enter_context(subject(variant, options, folder / "subject"))
        loads = [Load(floor, variant.requests), Load(server, variant.requests)]
        if options.subject == "nginx":
            return turns(variant.label, loads, options)
        with charges_checked(variant, loads[1]):
            return turns(variant.label, loads, options)


def side_by_side(variants: tuple[Variant, ...], options: Options) -> list[Row]:
    """Load nginx and all variants in turns, so that they can be compared with each other.

    Raises:
        LoadError: a run failed.
        ProbeError: a daemon did not decide what it was asked.

    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fv-bench-")))
        folder.chmod(0o755)  # as above
        floor = Load(stack.enter_context(servers.nginx(folder / "nginx")), variants[0].requests)
        loads = [floor]
        for number, variant in enumerate(variants):
            server = stack.enter_context(subject(variant, options, folder / f"subject-{number}"))
            named = dataclasses.replace(server, name=variant.label)
            loads.append(Load(named, variant.requests))
            stack.enter_context(charges_checked(variant, loads[-1]))
        rows = turns("", loads, options)
    taken = {(row.server, row.connections): row for row in rows}
    return [
        dataclasses.replace(taken[server, connections], variant=variant.label, server=name)
        for variant in variants
        for connections in options.connections
        for server, name in (("nginx", "nginx"), (variant.label, "fairvisor"))
    ]


def turns(label: str, loads: list[Load], options: Options) -> list[Row]:
    """Warm up, then take turns: in each round every server at every number of connections."""
    for each in loads:
        if each.requests.keys > 1:
            each.fill()
        each.run(WARM_UP_SECONDS, max(options.connections))
    samples: dict[tuple[str, int], list[Sample]] = {}
    for _ in range(options.rounds):
        for connections in options.connections:
            for each in loads:
                sample = each.run(options.seconds, connections)
                samples.setdefault((each.server.name, connections), []).append(sample)
    return [Row(label, name, n, tuple(taken)) for (name, n), taken in samples.items()]


@contextlib.contextmanager
def charges_checked(variant: Variant, watched: Load) -> Iterator[None]:
    """Check that the load in between is charged: exactly if it has one key, else by sample.

    Raises:
        ProbeError: it was not.

    """
    keys = variant.requests.keys
    sampled = sorted({1, (keys + 1) // 2, keys})
    started = time.monotonic()
    before = [probe.remaining(watched.server, variant, key, -key) for key in sampled]
    yield
    after = [probe.remaining(watched.server, variant, key, -1000 - key) for key in sampled]
    seconds = time.monotonic() - started
    if keys == 1:
        spent = before[0] - after[0] - 1  # the second probe's own token
        probe.require_charges(spent, watched.answered, watched.cut_off, seconds)
        return
    for key, was, now in zip(sampled, before, after, strict=True):
        if was - now - 1 + probe.refill(seconds) < 1:
            raise probe.ProbeError(f"key {key} was loaded, and nothing was charged")
