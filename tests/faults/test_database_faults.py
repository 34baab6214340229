"""A disk that fails under the database, not under the logs: SQLite itself gets EIO (§13.5)."""

import json
import signal
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from protocol.placement import placement
from tests.e2e.conftest import Daemon, wait_for
from tests.faults.clients import Books, asking
from tests.faults.stage import LATE, Stage, request_for, stage

KEYS = ["k1", "k4", "k5"]
SHIM = Path(__file__).parent / "shim"
MINUTE, RETRY = 61, 6
"""The keeper folds once a minute, and after a failure in 5 s: the clock is put ahead instead."""


@pytest.fixture(name="library", scope="module")
def _library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("shim") / "database_fault.so"
    source = SHIM / "database_fault.c"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", built, source, "-ldl"],
        check=True,
        timeout=LATE,
    )
    return built


def failing(daemon: Stage) -> bool:
    """Return whether the daemon says that its database is not written; it is ready all the same."""
    with daemon.running.connect() as connection:
        assert connection.request("/readyz").status == 200
        text = connection.request("/metrics").body.decode()
    assert 'fairvisor_store_degraded{shard="0"} 0.0' in text
    return "fairvisor_store_folding_failed 1.0" in text


def readiness(daemon: Daemon) -> tuple[int, str]:
    with daemon.connect() as connection:
        answer = connection.request("/readyz")
    return answer.status, str(json.loads(answer.body).get("reason", ""))


def statuses(daemon: Daemon, keys: list[str]) -> list[int]:
    return [daemon.decide("/a", {"X-API-Key": key}).status for key in keys]


def go_on(books: Books) -> None:
    goal = books.answered + 100
    wait_for(lambda: books.answered >= goal, LATE, "requests are answered")


def waiting_logs(daemon: Stage) -> int:
    return len(list((daemon.state / "log").glob("*.done")))


def preloaded(folder: Path, library: Path) -> AbstractContextManager[Stage]:
    """Run two shards whose database fails when it is told to."""
    return stage(
        folder,
        shards=2,
        worker_processes=1,
        owner_timeout_ms=2000,
        python_path=SHIM,
        plain={"LD_PRELOAD": library},
    )


@pytest.mark.parametrize("fails", ["s", "wsr"], ids=["syncs", "everything"])
def test_a_database_that_fails_leaves_the_logs(tmp_path: Path, library: Path, fails: str) -> None:
    fault, clock = tmp_path / "database-fault", tmp_path / "clock-ahead"
    with preloaded(tmp_path, library) as daemon:
        with asking(daemon.where, [request_for(key) for key in KEYS], 4) as books:
            go_on(books)
            wait_for(lambda: waiting_logs(daemon), LATE, "a log that is complete")
            fault.write_text(fails)
            clock.write_text(str(MINUTE))
            wait_for(lambda: failing(daemon), LATE, "the database is not written")
            go_on(books)
            fault.unlink()
            clock.write_text(str(MINUTE + RETRY))
            wait_for(lambda: not failing(daemon), LATE, "the database is written again")
            go_on(books)
            assert set(books.statuses) == {200}
        assert books.broken == 0
        database = daemon.state / "counters.db"
        said = daemon.running.said()
        assert said.count(f"{database} cannot be written: disk I/O error; logs wait until") == 1
        assert said.count(f"{database} is written again") == 1
        daemon.down(signal.SIGKILL)
        daemon.start()
        assert sum(daemon.spent(KEYS).values()) == books.answered


def test_a_shard_that_cannot_read_its_counters_waits_until_it_can(
    tmp_path: Path, library: Path
) -> None:
    fault = tmp_path / "database-fault"
    own = [key for key in KEYS if placement(key) % 2 == 0]
    others = [key for key in KEYS if key not in own]
    assert own
    assert others
    with preloaded(tmp_path, library) as daemon:
        spent = 0
        for number in (signal.SIGTERM, signal.SIGKILL):  # in the database, and in the log
            assert statuses(daemon.running, KEYS) == [200] * len(KEYS)
            spent += 1
            daemon.down(number)
            daemon.start()
        running = daemon.running
        fault.write_text("r")
        daemon.kill("shard 0")
        reason = f"shard 0 failed: {daemon.state / 'counters.db'} cannot be read: disk I/O error"
        wait_for(lambda: reason in running.said(), LATE, "the shard says why")
        daemon.kill("keeper")
        wait_for(lambda: readiness(running) == (503, "shard_unavailable"), LATE, "not ready")
        assert statuses(running, others) == [200] * len(others)
        assert statuses(running, own) == [503] * len(own)
        reason = f"keeper failed: FAIRVISOR_STATE_DIR: {daemon.state / 'counters.db'} cannot be "
        wait_for(lambda: reason in running.said(), LATE, "the keeper says why")
        fault.unlink()
        assert daemon.spent(own) == dict.fromkeys(own, spent)
        assert daemon.spent(others) == dict.fromkeys(others, spent + 1)
