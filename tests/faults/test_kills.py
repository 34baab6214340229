"""Nothing charged is forgotten, nothing refused is charged, whatever is killed when (§13.5)."""

import random
import signal
from pathlib import Path

from protocol.placement import placement
from tests.e2e.conftest import wait_for
from tests.faults.clients import asking
from tests.faults.kills import kill_under_load
from tests.faults.stage import LATE, Stage, request_for, stage

KEYS = ["k1", "k4", "k5"]
SEED = 20
PATIENT = 2000
"""Milliseconds that a front waits for a shard: a killed one is back by then, mostly."""


def test_kills_of_every_kind_of_process(tmp_path: Path) -> None:
    with stage(tmp_path, shards=2, worker_processes=2, owner_timeout_ms=PATIENT) as daemon:
        # Only shards and keepers: to the unit.
        report = kill_under_load(daemon, ["shard 0", "keeper", "shard 1"], KEYS, SEED)
        assert report.gap == 0, report
        assert report.broken == 0, report
        # Fronts and supervisors take their clients' connections with them. A request that was
        # about to be written stays charged; nothing is forgotten.
        roles = ["front 0", "supervisor", "shard 0", "front 1", "supervisor", "front 0"]
        report = kill_under_load(daemon, roles, KEYS, SEED)
        assert 0 <= report.gap <= report.broken, report


def test_memory_loses_the_counters_of_the_killed_shard_and_nothing_else(tmp_path: Path) -> None:
    keys = [f"key-{number}" for number in range(12)]
    mine = {key for key in keys if placement(key) % 2 == 0}
    assert 0 < len(mine) < len(keys)
    settings = {"shards": 2, "worker_processes": 2, "durability": "memory"}
    with stage(tmp_path, owner_timeout_ms=PATIENT, **settings) as daemon:
        with asking(daemon.where, [request_for(key) for key in keys], 4) as books:
            wait_for(lambda: books.answered >= 200, LATE, "requests are answered")
        before = daemon.spent(keys)
        assert sum(before.values()) == books.answered
        for role in ("front 0", "front 1", "shard 0"):
            daemon.kill(role)
        after = daemon.spent(keys)
        assert after == {key: 0 if key in mine else spent + 1 for key, spent in before.items()}
        daemon.down(signal.SIGTERM)
        daemon.start()
        assert set(daemon.spent(keys).values()) == {0}


def test_five_restarts_and_another_number_of_shards(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    shards = [3, 5, 5, 3, 3]
    endings = [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL]
    rng.shuffle(endings)
    with stage(tmp_path, shards=3, worker_processes=2, owner_timeout_ms=PATIENT) as daemon:
        requests = [request_for(key) for key in KEYS]
        with asking(daemon.where, requests, 6) as books:
            for count, ending in zip(shards, endings, strict=True):
                goal = books.answered + 200
                wait_for(lambda g=goal: books.answered >= g, LATE, "requests are answered")  # type: ignore[misc]  # mypy does not infer the default's type
                restart(daemon, ending, count)
            goal = books.answered + 200
            wait_for(lambda: books.answered >= goal, LATE, "requests are answered")
        assert set(books.statuses) <= {200, 503}, books
        units = sum(daemon.spent(KEYS).values())
        assert 0 <= units - books.answered <= books.broken, (units, books)


def restart(daemon: Stage, ending: signal.Signals, shards: int) -> None:
    """Stop the daemon and start it with another number of shards."""
    daemon.down(ending)
    daemon.settings["shards"] = shards
    daemon.start()
