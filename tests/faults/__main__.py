"""Faults for as long as you like: `scripts/soak [WHAT …] [--minutes N] [--seed S]`.

    kills      kill -9 of random processes under load on one budget, a kill every two seconds
    malformed  generated requests that are none, on the decision API and on the proxy

What the tests do in seconds, with another seed, for longer. Exit code 1 if something is wrong.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.conftest import _starter
from tests.faults.kills import kill_under_load, roles_of
from tests.faults.malformed import malformed
from tests.faults.stage import stage

KILLS_A_RUN = 30
KEYS = ["one-budget"]
WARM_UP = 0.25
MOST_GROWN = 32 << 10
"""KiB that a daemon may grow by after its caches are warm."""
MOST_DESCRIPTORS = 16


def kills(minutes: float, seed: int) -> bool:
    """Kill 30 processes a minute; every run is a daemon of its own, on an empty state folder."""
    end = time.monotonic() + 60 * minutes
    fine = True
    while time.monotonic() < end:
        rng = random.Random(seed)
        with (
            tempfile.TemporaryDirectory(prefix="fv-soak-") as folder,
            stage(Path(folder), shards=2, worker_processes=2, owner_timeout_ms=1000) as daemon,
        ):
            roles = rng.choices(roles_of(daemon), k=KILLS_A_RUN)
            report = kill_under_load(daemon, roles, KEYS, seed, pause=3.5)
        say(f"seed {seed}: {report}")
        fine &= 0 <= report.gap <= report.broken
        seed += 1
    return fine


def malformed_requests(minutes: float, seed: int) -> bool:
    """Send generated requests, half of the time to each mode."""
    seconds = 30 * minutes
    fine = True
    for mode in ("decision_service", "hybrid"):
        with ExitStack() as stack:
            times = (seconds * WARM_UP, seconds * (1 - WARM_UP))
            run = malformed(_starter(stack), mode, seed, times)
        say(str(run))
        if run.unexplained:
            say(f"unexplained: {run.unexplained}")
        fine &= not run.unexplained
        fine &= run.memory_grown <= MOST_GROWN and run.descriptors_grown <= MOST_DESCRIPTORS
    return fine


SOAKS: dict[str, Callable[[float, int], bool]] = {"kills": kills, "malformed": malformed_requests}


def say(text: str) -> None:
    """Tell whoever waits."""
    print(text, flush=True)  # noqa: T201 - a command


def main() -> int:
    """Run what was asked for; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that daemons are stopped then, too
    grammar = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    grammar.add_argument("what", nargs="*", choices=[*SOAKS, []], default=list(SOAKS))
    grammar.add_argument("--minutes", type=float, default=10.0, help="for each (10)")
    grammar.add_argument("--seed", type=int, default=1, help="another one finds other things (1)")
    arguments = grammar.parse_args()
    results = {name: SOAKS[name](arguments.minutes, arguments.seed) for name in arguments.what}
    for name, fine in results.items():
        say(f"{name}: {'nothing found' if fine else 'FAILED'}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
