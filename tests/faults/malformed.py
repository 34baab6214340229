"""Let a daemon have generated requests, and look at what it answers and what it keeps."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.conftest import ROOT, wait_for
from tests.end_with_us import KILLED
from tests.faults.patient import Patient
from tests.faults.stage import LATE, Serve

BY_DESIGN = {"505 HTTP/1.0 or HTTP/1.1 only"}
"""Answers of 5xx that a request can earn."""


@dataclass
class Resources:
    """By process: memory in KiB, and open descriptors."""

    memory: dict[str, int]
    descriptors: dict[str, int]

    @classmethod
    def of(cls, pids: dict[str, int]) -> "Resources":
        """Return those of the daemon's processes."""
        return cls(
            {name: _rss(pid) for name, pid in pids.items()},
            {name: len(list(Path(f"/proc/{pid}/fd").iterdir())) for name, pid in pids.items()},
        )


@dataclass
class Run:
    """What one daemon made of it."""

    mode: str
    outcomes: Counter[str] = field(default_factory=Counter)
    before: Resources | None = None
    after: Resources | None = None

    @property
    def memory_grown(self) -> int:
        """KiB that the processes together have grown by since they were warm."""
        assert self.before is not None
        assert self.after is not None
        return sum(self.after.memory.values()) - sum(self.before.memory.values())

    @property
    def descriptors_grown(self) -> int:
        """Descriptors that the processes together have more of since they were warm."""
        assert self.before is not None
        assert self.after is not None
        return sum(self.after.descriptors.values()) - sum(self.before.descriptors.values())

    @property
    def unexplained(self) -> list[str]:
        """Outcomes of 5xx that are not by design."""
        return sorted(name for name in self.outcomes if name[0] == "5" and name not in BY_DESIGN)

    def __str__(self) -> str:
        assert self.before is not None
        assert self.after is not None
        grown = ", ".join(
            f"{name}: {self.before.memory[name] >> 10} to {self.after.memory[name] >> 10} MiB and"
            f" {self.before.descriptors[name]} to {self.after.descriptors[name]} descriptors"
            for name in sorted(self.before.memory)
        )
        return f"{self.mode}: {self.outcomes.total()} requests: {dict(self.outcomes)}; {grown}"


def bundle() -> dict[str, Any]:
    """Return limits on everything that a request says."""
    rules: list[dict[str, Any]] = [
        {
            "name": key.replace(":", "-"),
            "limit_keys": [key],
            "algorithm": "token_bucket",
            "algorithm_config": {"tokens_per_second": 1000, "burst": 100_000},
        }
        for key in ("ip:address", "header:x-api-key", "jwt:sub", "query:x", "ua:bot")
    ]
    tokens = {
        "name": "tokens",
        "limit_keys": ["header:x-api-key"],
        "algorithm": "token_bucket_llm",
        "algorithm_config": {"tokens_per_minute": 10**9},
    }
    loop = {"enabled": True, "window_seconds": 5, "threshold_identical_requests": 10**6,
            "action": "reject"}  # fmt: skip
    spec = {"selector": {"pathPrefix": "/"}, "rules": [*rules, tokens], "loop_detection": loop}
    return {"bundle_version": 1, "policies": [{"id": "all", "spec": spec}]}


def malformed(
    serve: Serve,
    mode: str,
    seed: int,
    times: tuple[float, float],
    most: tuple[int, int] = (sys.maxsize, sys.maxsize),
) -> Run:
    """Warm up and then measure: for so many seconds, or so many requests of each client."""
    run = Run(mode)
    with Patient() as upstream:
        daemon = serve(
            bundle(), mode=mode, unix=True, wrapper_auth="passthrough",
            provider_openai_url=upstream.url if mode == "hybrid" else "",
            shared_dict_size="8m", reservation_ttl=20,
        )  # fmt: skip
        pids = daemon.pids()
        for number, seconds in enumerate(times):
            where = daemon.unix, str(daemon.port)
            for outcomes in _clients(where, seed + 2 * number, seconds, most[number]):
                run.outcomes += outcomes
            wait_for(lambda: _idle(pids), LATE, "connections are closed")
            now = Resources.of(pids)
            run.before, run.after = (now, now) if run.before is None else (run.before, now)
        assert daemon.pids() == pids, "a process was replaced"
        assert daemon.decide("/a").status == 200
        said = daemon.said()
        assert "could not be handled" not in said, said[-3000:]
        assert "failed with" not in said, said[-3000:]
    return run


def _clients(
    addresses: tuple[str, str], seed: int, seconds: float, most: int
) -> list[Counter[str]]:
    """Send over both kinds of socket at once."""
    running = [
        subprocess.Popen(
            [*KILLED, sys.executable, "-m", "tests.faults.malformed_client", where,
             str(seed + number), str(seconds), str(most)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, where in enumerate(addresses)
    ]  # fmt: skip
    outcomes = []
    for client in running:
        output, _ = client.communicate(timeout=seconds + 120)
        assert client.returncode == 0, output
        outcomes.append(Counter(json.loads(output)))
    return outcomes


def _idle(pids: dict[str, int]) -> bool:
    """Return whether the front holds no client's connection: as many sockets as after its start."""
    sockets = 0
    for entry in Path(f"/proc/{pids['front 0']}/fd").iterdir():
        try:
            sockets += str(entry.readlink()).startswith("socket:")
        except OSError:
            continue
    return sockets <= FEW


FEW = 40
"""Sockets of a front without clients: listeners, links, the supervisor, idle upstreams."""


def _rss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
