"""A disk without room, and one that fails, under load (§13.5)."""

import errno
import re
import resource
from pathlib import Path

import pytest

from tests.e2e.conftest import Daemon, wait_for
from tests.faults.clients import Books, asking
from tests.faults.stage import LATE, request_for, stage

KEYS = ["k1", "k4", "k5"]
SHIM = Path(__file__).parent / "shim"


def degraded(daemon: Daemon) -> set[str]:
    """Return the shards that would lose counters now."""
    with daemon.connect() as connection:
        text = connection.request("/metrics").body.decode()
    return set(re.findall(r'fairvisor_store_degraded\{shard="(\d+)"\} 1', text))


def go_on(books: Books) -> None:
    goal = books.answered + 150
    wait_for(lambda: books.answered >= goal, LATE, "requests are answered")


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_costs_durability_and_nothing_else(tmp_path: Path, fault: int) -> None:
    with stage(
        tmp_path, shards=2, worker_processes=1, owner_timeout_ms=2000, python_path=SHIM
    ) as daemon:
        running = daemon.running
        switch = tmp_path / "disk-fault"
        with asking(daemon.where, [request_for(key) for key in KEYS], 6) as books:
            go_on(books)
            switch.write_text(str(fault))
            wait_for(lambda: degraded(running) == {"0", "1"}, LATE, "both shards are in memory")
            go_on(books)
            switch.unlink()
            wait_for(lambda: not degraded(running), LATE, "both shards store again")
            go_on(books)
            assert set(books.statuses) == {200}
            for role in ("shard 0", "shard 1"):  # what was in memory only is on the disk by now
                daemon.kill(role)
            go_on(books)
        assert books.broken == 0
        assert sum(daemon.spent(KEYS).values()) == books.answered
        said = running.said()
        assert said.count(f"counters cannot be stored in {daemon.state}: ") == 2
        assert said.count("counters are stored again") == 2


def test_a_database_without_room_leaves_the_logs(tmp_path: Path) -> None:
    with stage(tmp_path, shards=1, worker_processes=1, owner_timeout_ms=2000) as daemon:
        assert sum(daemon.spent(KEYS).values()) == 0
        keeper = daemon.running.pids()["keeper"]
        _, hard = resource.prlimit(keeper, resource.RLIMIT_FSIZE)
        resource.prlimit(keeper, resource.RLIMIT_FSIZE, (1024, hard))
        daemon.down(15)  # it folds what there is, and cannot
        assert "counters.db cannot be written: " in daemon_said(daemon.bodies)
        daemon.start()
        assert set(daemon.spent(KEYS).values()) == {1}


def daemon_said(daemons: list[Daemon]) -> str:
    """Return what all daemons of a stage have said."""
    return "\n".join(each.said() for each in daemons)
