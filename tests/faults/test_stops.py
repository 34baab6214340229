"""Processes that hang for a while under load, and come back (§13.3)."""

import os
import signal
import time
from pathlib import Path

from tests.e2e.conftest import wait_for
from tests.faults.clients import asking
from tests.faults.stage import LATE, request_for, stage

KEYS = ["k1", "k4", "k5"]
STOPPED_SECONDS = 0.6
"""Less than any watchdog's patience, more than the fronts'."""


def test_stopped_processes_lose_and_gain_nothing(tmp_path: Path) -> None:
    with stage(tmp_path, shards=2, worker_processes=2, owner_timeout_ms=100) as daemon:
        pids = daemon.running.pids()
        with asking(daemon.where, [request_for(key) for key in KEYS], 8) as books:
            for role in ("shard 0", "front 1", "keeper", "shard 1", "front 0"):
                goal = books.answered + 150
                wait_for(lambda g=goal: books.answered >= g, LATE, "requests are answered")  # type: ignore[misc]  # mypy does not infer the default's type
                os.kill(pids[role], signal.SIGSTOP)
                try:
                    time.sleep(STOPPED_SECONDS)  # that is the fault
                finally:
                    os.kill(pids[role], signal.SIGCONT)
            goal = books.answered + 150
            wait_for(lambda: books.answered >= goal, LATE, "requests are answered")
        # What a stopped shard granted too late had been refused: it is given back.
        assert set(books.statuses) <= {200, 503}
        assert books.broken == 0
        assert books.statuses[503] > 0
        assert sum(daemon.spent(KEYS).values()) == books.answered
