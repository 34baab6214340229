"""Reloads without end, of good and of broken bundles, under load (§2.7)."""

import json
import random
import signal
from pathlib import Path

from tests.e2e.conftest import wait_for
from tests.faults.clients import asking
from tests.faults.malformed import Resources
from tests.faults.stage import LATE, Stage, budget, request_for, stage

KEYS = ["k1", "k4", "k5"]
STORMS = 3
RELOADS = 70


def rewrite(daemon: Stage, rng: random.Random, version: int) -> int:
    """Put another bundle in place; return the version that is in force when it has been read."""
    folder = daemon.running.folder
    bundle = budget()
    bundle["bundle_version"] = version + 1
    other = dict(bundle["policies"][0]["spec"]["rules"][0], name="other")
    other["algorithm_config"] = {**other["algorithm_config"], "budget": rng.randrange(10**8, 10**9)}
    bundle["policies"][0]["spec"]["rules"].append(other)
    text = json.dumps(bundle)
    kind = rng.choice(("good", "good", "torn", "invalid", "binary", "gone"))
    match kind:
        case "torn":
            text = text[: rng.randrange(len(text))]
        case "invalid":
            text = text.replace('"cost_based"', '"cost_bassed"', 1)
        case "binary":
            text = "\0" * 50
    beside = folder / "beside"
    beside.write_text(text)
    if kind == "gone":
        beside = folder / "policy.json"
        beside.unlink(missing_ok=True)
        return version
    beside.rename(folder / "policy.json")
    return version + 1 if kind == "good" else version


def storm(daemon: Stage, rng: random.Random, version: int) -> int:
    """Reload without waiting; then one good bundle is to be in force."""
    for _ in range(RELOADS):
        version = max(version, rewrite(daemon, rng, version))
        daemon.running.process.send_signal(signal.SIGHUP)
    last = budget()
    last["bundle_version"] = version = version + 1
    beside = daemon.running.folder / "beside"
    beside.write_text(json.dumps(last))
    beside.rename(daemon.running.folder / "policy.json")
    daemon.running.process.send_signal(signal.SIGHUP)
    wait_for(lambda: in_force(daemon) == version, LATE, f"version {version} in force")
    return version


def in_force(daemon: Stage) -> int:
    with daemon.running.connect() as connection:
        return int(json.loads(connection.request("/readyz").body)["policy_version"])


def test_reload_storms_lose_nothing_and_leak_nothing(tmp_path: Path) -> None:
    rng = random.Random(3)
    version = 1
    settings = {"shards": 2, "worker_processes": 2, "file_poll_interval": 0.1}
    with stage(tmp_path, owner_timeout_ms=5000, **settings) as daemon:
        pids = daemon.running.pids()
        with asking(daemon.where, [request_for(key) for key in KEYS], 4) as books:
            version = storm(daemon, rng, version)
            before = Resources.of(pids)
            for _ in range(STORMS - 1):
                version = storm(daemon, rng, version)
            after = Resources.of(pids)
        assert set(books.statuses) == {200}
        assert books.broken == 0
        assert sum(daemon.spent(KEYS).values()) == books.answered
        assert daemon.running.pids() == pids
        for name in pids:
            assert after.descriptors[name] <= before.descriptors[name] + 4, name
            assert after.memory[name] <= before.memory[name] + (12 << 10), name
