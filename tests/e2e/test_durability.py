"""Counters outlive the processes that hold them (behaviour §13.1, §13.5)."""

import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Daemon = Any
Serve = Callable[..., Daemon]
WaitUntil = Callable[..., None]

LATE = 30.0
PLENTY = 1_000_000
BUDGET = {
    "name": "spend",
    "limit_keys": ["header:x-api-key"],
    "algorithm": "cost_based",
    "on_error": "reject",
    "algorithm_config": {
        "budget": PLENTY,
        "period": "1mo",
        "fixed_cost": 1,
        "staged_actions": [{"threshold_percent": 100, "action": "reject"}],
    },
}
TOKENS = {
    "name": "tokens",
    "limit_keys": ["header:x-api-key"],
    "algorithm": "token_bucket_llm",
    "algorithm_config": {"tokens_per_minute": 10_000, "tokens_per_day": 100_000},
}


def bundle(*rules: dict[str, Any], version: int = 1, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    policy = {"selector": {"pathPrefix": "/"}, "rules": list(rules), **spec}
    return {"bundle_version": version, "policies": [{"id": "money", "spec": policy}]}


def spend(daemon: Daemon, key: str = "k") -> int:
    """Spend one unit; return what is left."""
    answer = daemon.decide("/a", {"X-API-Key": key})
    assert answer.status == 200, answer
    return int(answer.headers["ratelimit-remaining"])


@dataclass
class Load:
    """What clients saw: requests answered 200, refused without a charge, and without an answer."""

    answered: int = 0
    refused: int = 0
    unanswered: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def load(daemon: Daemon, clients: int, keys: int) -> Iterator[Load]:
    """Spend from several clients at once that reconnect when they must."""
    seen = Load()
    stop = threading.Event()

    def ask(client: int) -> None:
        connection = None
        number = client
        while not stop.is_set():
            number += 1
            try:
                connection = connection or daemon.connect()
                answer = connection.request(headers={"X-Original-URI": "/a",
                                                     "X-API-Key": f"k{number % keys}"})  # fmt: skip
            except (OSError, EOFError):
                with seen.lock:
                    seen.unanswered += 1
                if connection:
                    connection.close()
                connection = None
                stop.wait(0.02)
                continue
            with seen.lock:
                if answer.status == 200:
                    seen.answered += 1
                else:
                    assert answer.status == 503, answer
                    seen.refused += 1
        if connection:
            connection.close()

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def spent(daemon: Daemon, keys: int) -> int:
    """Return how many units are on the counters of the load."""
    return sum(PLENTY - spend(daemon, f"k{number}") - 1 for number in range(keys))


def test_a_killed_shard_forgets_nothing(serve: Serve, wait_until: WaitUntil) -> None:
    daemon = serve(bundle(BUDGET), shards=2)
    keys = [f"key-{number}" for number in range(8)]
    before = {key: spend(daemon, key) for key in keys}
    for role in ("shard 0", "shard 1"):
        old = daemon.pids()[role]
        os.kill(old, signal.SIGKILL)
        wait_until(lambda o=old, r=role: daemon.pids().get(r, o) != o, LATE, f"a new {role}")
        wait_until(lambda: is_back(daemon, 2), LATE, "back")
    after = {key: spend(daemon, key) for key in keys}
    assert set(before.values()) == {PLENTY - 1}
    assert after == {key: left - 1 for key, left in before.items()}


def is_back(daemon: Daemon, shards: int) -> bool:
    """Return whether every shard reports."""
    return len(degraded(daemon)) == shards


def degraded(daemon: Daemon) -> dict[str, float]:
    """Return by shard whether it cannot store its counters."""
    with daemon.connect() as connection:
        text = connection.request("/metrics").body.decode()
    found = re.findall(r'fairvisor_store_degraded\{shard="(\d+)"\} ([0-9.]+)', text)
    return {shard: float(value) for shard, value in found}


def test_a_disk_that_takes_nothing_means_memory_until_it_does(
    serve: Serve, wait_until: WaitUntil
) -> None:
    daemon = serve(bundle(BUDGET), owner_timeout_ms=200)
    before = spend(daemon)
    shard = daemon.pids()["shard 0"]
    _, hard = resource.prlimit(shard, resource.RLIMIT_FSIZE)
    resource.prlimit(shard, resource.RLIMIT_FSIZE, (16, hard))
    assert spend(daemon) == before - 1
    wait_until(lambda: degraded(daemon) == {"0": 1}, LATE, "degraded")
    assert spend(daemon) == before - 2
    told = [line for line in daemon.said().splitlines() if "ERROR" in line]
    assert len(told) == 1
    state = daemon.folder / "state"
    assert f"shard 0: counters cannot be stored in {state}: File too large; " in told[0]
    resource.prlimit(shard, resource.RLIMIT_FSIZE, (hard, hard))
    wait_until(lambda: degraded(daemon) == {"0": 0}, LATE, "stored again")
    assert "WARNING: shard 0: counters are stored again" in daemon.said()
    os.kill(shard, signal.SIGKILL)
    wait_until(lambda: daemon.pids().get("shard 0", shard) != shard, LATE, "a new shard")
    wait_until(lambda: is_back(daemon, 1), LATE, "back")
    assert spend(daemon) == before - 3


def test_the_keeper_may_be_killed(serve: Serve, wait_until: WaitUntil, tmp_path: Path) -> None:
    state = tmp_path / "state"
    daemon = serve(bundle(BUDGET), state_dir=state)
    left = spend(daemon)
    keeper = daemon.pids()["keeper"]
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: daemon.pids().get("keeper", keeper) != keeper, LATE, "a new keeper")
    assert spend(daemon) == left - 1
    assert daemon.stop() == 0
    assert spend(serve(bundle(BUDGET), state_dir=state)) == left - 2


@pytest.mark.parametrize("durability", ["crash", "power"])
def test_what_was_answered_is_on_the_counters_to_the_unit(
    serve: Serve, wait_until: WaitUntil, durability: str
) -> None:
    daemon = serve(bundle(BUDGET), shards=2, worker_processes=2, durability=durability)
    keys = 5
    with load(daemon, clients=6, keys=keys) as seen:
        for role in ("shard 0", "shard 1", "shard 0", "shard 1"):
            goal = seen.answered + 300
            wait_until(lambda g=goal: seen.answered >= g, LATE, "requests go on")
            old = daemon.pids()[role]
            os.kill(old, signal.SIGKILL)
            wait_until(lambda o=old, r=role: daemon.pids().get(r, o) != o, LATE, f"a new {role}")
        goal = seen.answered + 300
        wait_until(lambda: seen.answered >= goal, LATE, "requests go on")
    assert seen.unanswered == 0
    assert spent(daemon, keys) == seen.answered


def test_restarts_with_other_numbers_of_shards_forget_nothing(serve: Serve, tmp_path: Path) -> None:
    state = tmp_path / "state"
    keys = [f"key-{number}" for number in range(12)]
    left = PLENTY
    for shards, number in ((3, signal.SIGTERM), (5, signal.SIGKILL), (2, signal.SIGTERM), (1, 15)):
        daemon = serve(bundle(BUDGET), shards=shards, state_dir=state)
        left -= 1
        assert {spend(daemon, key) for key in keys} == {left}
        if number == signal.SIGKILL:
            daemon.process.kill()
            daemon.process.wait()
        else:
            assert daemon.stop() == 0


def test_common_tools_read_the_database(serve: Serve, tmp_path: Path) -> None:
    state = tmp_path / "state"
    daemon = serve(bundle(BUDGET), state_dir=state)
    spend(daemon, "alice")
    spend(daemon, "alice")
    assert daemon.stop() == 0
    assert list((state / "log").iterdir()) == []
    sqlite = shutil.which("sqlite3")
    assert sqlite is not None or sqlite3.sqlite_version
    with sqlite3.connect(state / "counters.db") as connection:
        rows = connection.execute(
            "SELECT policy, rule, algorithm, key, state FROM state"
        ).fetchall()
    connection.close()
    (row,) = rows
    assert row[:4] == ("money", "spend", "cost_based", "alice")
    assert json.loads(row[4])[2] == 2_000_000


def test_memory_forgets_with_the_process(serve: Serve, tmp_path: Path) -> None:
    daemon = serve(bundle(BUDGET), durability="memory", state_dir=tmp_path / "state")
    assert [spend(daemon), spend(daemon)] == [PLENTY - 1, PLENTY - 2]
    assert not (tmp_path / "state").exists()
    assert "keeper" not in daemon.pids()


def test_two_daemons_do_not_share_a_folder(serve: Serve, tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = serve(bundle(BUDGET), state_dir=state)
    second = serve(bundle(BUDGET), state_dir=state, ready=False)
    assert second.process.wait(LATE) == 1
    pid = first.process.pid
    expected = f"FAIRVISOR_STATE_DIR: {state} is in use by another daemon (process {pid})"
    (line,) = second.said().splitlines()
    assert line.startswith(f"fairvisor: {expected}; ")
    second.process.returncode = 0  # that is how it should end


@pytest.mark.parametrize("what", ["a file", "read only"])
def test_a_folder_that_cannot_be_had_is_told(serve: Serve, tmp_path: Path, what: str) -> None:
    state = tmp_path / "state"
    if what == "a file":
        state.write_text("")
    else:
        state = Path("/proc/fairvisor")
    daemon = serve(bundle(BUDGET), state_dir=state, ready=False)
    assert daemon.process.wait(LATE) == 1
    (line,) = daemon.said().splitlines()
    assert line.startswith(f"fairvisor: FAIRVISOR_STATE_DIR: {state} cannot be written to: ")
    daemon.process.returncode = 0


def test_a_limit_may_change_between_runs(serve: Serve, tmp_path: Path) -> None:
    state = tmp_path / "state"
    daemon = serve(bundle(BUDGET), state_dir=state)
    spend(daemon)
    assert daemon.stop() == 0
    changed = json.loads(json.dumps(BUDGET))
    changed["algorithm_config"]["budget"] = 10
    other = {**BUDGET, "name": "another", "limit_keys": ["ip:address"]}
    again = serve(bundle(other, changed, version=2), state_dir=state)
    assert spend(again) == 8


def test_a_damaged_database_is_set_aside(serve: Serve, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "counters.db").write_bytes(b"this was a database once" * 1000)
    daemon = serve(bundle(BUDGET), state_dir=state)
    assert spend(daemon) == PLENTY - 1
    (aside,) = state.glob("counters.db.damaged-*")
    assert f"{state}/counters.db is damaged" in daemon.said()
    assert f"set aside as {aside}" in daemon.said()


def test_a_store_of_a_newer_version_is_left_alone(serve: Serve, tmp_path: Path) -> None:
    state = tmp_path / "state"
    daemon = serve(bundle(BUDGET), state_dir=state)
    spend(daemon)
    assert daemon.stop() == 0
    with sqlite3.connect(state / "counters.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (state / "counters.db").read_bytes()
    newer = serve(bundle(BUDGET), state_dir=state, ready=False)
    assert newer.process.wait(LATE) == 1
    newer.process.returncode = 0  # that is how it should end
    assert f"{state}/counters.db: it has version 99, this program knows 2; " in newer.said()
    assert "install that version again, or move it away" in newer.said()
    assert (state / "counters.db").read_bytes() == before
    with sqlite3.connect(state / "counters.db") as connection:
        connection.execute("DELETE FROM about WHERE name = 'newest'")
        connection.execute("PRAGMA user_version = 1")  # and one that this version brings up to date
    connection.close()
    assert spend(serve(bundle(BUDGET), state_dir=state)) == PLENTY - 2


def test_reservations_outlive_a_restart(serve: Serve, tmp_path: Path) -> None:
    state = tmp_path / "state"
    tokens = bundle(TOKENS)
    daemon = serve(tokens, state_dir=state, shards=3)
    headers = {"X-API-Key": "k", "X-Token-Estimate": "100"}
    held = daemon.decide("/v1/chat/completions", headers).headers["x-fairvisor-reservation"]
    daemon.process.kill()
    daemon.process.wait()
    again = serve(tokens, state_dir=state, shards=2)
    usage = {"reservation": held, "usage": {"total_tokens": 100}}
    with ExitStack() as stack, suppress(EOFError):
        connection = stack.enter_context(again.connect())
        body = json.dumps(usage).encode()
        assert connection.request("/v1/settle", method="POST", body=body).status == 204
        assert connection.request("/v1/settle", method="POST", body=body).status == 409
