"""Processes that hang or keep ending are noticed, told of, and replaced (behaviour §13.3)."""

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Daemon = Any
Serve = Callable[..., Daemon]
WaitUntil = Callable[..., None]

LATE = 40.0
PLENTY = 1_000_000
ENDS_OF_A_LOOP = 5


def bundle(on_error: str = "allow") -> dict[str, Any]:
    rule = {
        "name": "spend",
        "limit_keys": ["header:x-api-key"],
        "algorithm": "cost_based",
        "on_error": on_error,
        "algorithm_config": {
            "budget": PLENTY,
            "period": "1mo",
            "fixed_cost": 1,
            "staged_actions": [{"threshold_percent": 100, "action": "reject"}],
        },
    }
    spec = {"selector": {"pathPrefix": "/"}, "rules": [rule]}
    return {"bundle_version": 1, "policies": [{"id": "money", "spec": spec}]}


def metric(daemon: Daemon, name: str, kind: str) -> float:
    """Return a metric of one kind of process, as one scrape says."""
    with daemon.connect() as connection:
        text = connection.request("/metrics").body.decode()
    found = re.search(rf'^fairvisor_{name}\{{process="{kind}"\}} ([0-9.]+)$', text, re.MULTILINE)
    assert found, text
    return float(found[1])


def readiness(daemon: Daemon) -> tuple[int, str]:
    with daemon.connect() as connection:
        answer = connection.request("/readyz")
    return answer.status, json.loads(answer.body).get("reason", "")


class Spender:
    """Clients that spend on one key each, and what they were answered by key."""

    def __init__(self, daemon: Daemon, keys: list[str]) -> None:
        self.daemon = daemon
        self.keys = keys
        self.allowed = dict.fromkeys(keys, 0)
        self.unanswered = dict.fromkeys(keys, 0)
        self.wrong: list[object] = []
        self._stop = threading.Event()

    @contextmanager
    def spending(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._spend, args=(key,)) for key in self.keys]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(LATE)

    def _spend(self, key: str) -> None:
        connection = None
        headers = {"X-Original-URI": "/a", "X-API-Key": key}
        while not self._stop.is_set():
            try:
                connection = connection or self.daemon.connect()
                answer = connection.request(headers=headers)
            except (OSError, EOFError):
                self.unanswered[key] += 1
                connection = connection and connection.close()
                continue
            if answer.status == 200:
                self.allowed[key] += 1
            elif answer.status != 503:
                self.wrong.append(answer)
            time.sleep(0.002)
        if connection:
            connection.close()

    def spent(self, key: str) -> int:
        """Return what is on a key's counter, and spend one more."""
        answer = self.daemon.decide("/a", {"X-API-Key": key})
        assert answer.status == 200, answer
        return PLENTY - int(answer.headers["ratelimit-remaining"]) - 1


def test_a_front_and_a_keeper_that_hang_are_replaced(serve: Serve, wait_until: WaitUntil) -> None:
    daemon = serve(bundle(), worker_processes=2, watchdog_seconds=1)
    old, keeper = daemon.pids()["front 0"], daemon.pids()["keeper"]
    os.kill(keeper, signal.SIGSTOP)
    with daemon.connect() as first:
        # whoever of them has it: a new one is always there to take the next connection
        assert first.request("/livez").status == 200
        os.kill(old, signal.SIGSTOP)
        wait_until(lambda: daemon.pids().get("front 0", old) != old, LATE, "a new front")
    assert "front 0 does not answer; replacing it" in daemon.said()
    wait_until(lambda: metric(daemon, "process_hung_total", "front") >= 1, LATE, "the metric")
    assert daemon.decide("/a", {"X-API-Key": "k"}).status == 200
    assert readiness(daemon) == (200, "")
    wait_until(lambda: daemon.pids().get("keeper", keeper) != keeper, LATE, "a new keeper")
    wait_until(lambda: metric(daemon, "process_hung_total", "keeper") >= 1, LATE, "the metric")


def test_a_shard_that_hangs_is_replaced_and_its_counters_are_exact(
    serve: Serve, wait_until: WaitUntil
) -> None:
    daemon = serve(
        bundle("reject"), worker_processes=2, shards=2, watchdog_seconds=2, owner_timeout_ms=300
    )
    keys = [f"k{number}" for number in range(6)]
    spender = Spender(daemon, keys)
    old = daemon.pids()["shard 0"]
    with spender.spending():
        wait_until(lambda: all(spender.allowed.values()), LATE, "requests")
        os.kill(old, signal.SIGSTOP)
        wait_until(lambda: "shard 0 ended" not in daemon.said() and stalled(spender),
                   LATE, "keys of the other shard go on alone")  # fmt: skip
        wait_until(lambda: daemon.pids().get("shard 0", old) != old, LATE, "a new shard")
        before = dict(spender.allowed)
        wait_until(
            lambda: all(spender.allowed[key] > before[key] + 5 for key in keys), LATE, "all again"
        )
    assert spender.wrong == []
    assert metric(daemon, "process_hung_total", "shard") >= 1
    for key in keys:
        spent = spender.spent(key)
        # One that got no answer may have been allowed.
        assert spender.allowed[key] <= spent <= spender.allowed[key] + spender.unanswered[key]


def stalled(spender: Spender) -> bool:
    """Return whether within a moment some keys were served and others were not."""
    before = dict(spender.allowed)
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        gains = [spender.allowed[key] - before[key] for key in spender.keys]
        if max(gains) > 20 and min(gains) == 0:
            return True
        time.sleep(0.01)
    return False


def test_a_supervisor_that_was_stopped_itself_shoots_nobody(
    serve: Serve, wait_until: WaitUntil
) -> None:
    limit = 3.0
    daemon = serve(bundle(), worker_processes=2, watchdog_seconds=limit)
    before = daemon.pids()
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > limit + 1, LATE, "longer than the patience")
        assert daemon.decide("/a", {"X-API-Key": "k"}).status == 200  # nobody needs it for that
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
    awake = time.monotonic()
    while time.monotonic() - awake < limit:
        assert metric(daemon, "process_hung_total", "front") == 0
        time.sleep(0.1)
    assert daemon.pids() == before


def kill_again_and_again(daemon: Daemon, role: str, wait_until: WaitUntil) -> None:
    old = 0
    for _ in range(ENDS_OF_A_LOOP):
        wait_until(lambda o=old: daemon.pids().get(role, o) != o, LATE, f"a new {role}")
        old = daemon.pids()[role]
        os.kill(old, signal.SIGKILL)


def test_a_front_that_keeps_ending_is_told_of_once(serve: Serve, wait_until: WaitUntil) -> None:
    daemon = serve(bundle(), worker_processes=2)
    kill_again_and_again(daemon, "front 1", wait_until)
    wait_until(lambda: "front 1 keeps ending: 5 times" in daemon.said(), LATE, "a word")
    assert "at last with SIGKILL; starting it every 5 s" in daemon.said()
    assert metric(daemon, "process_crash_looping", "front") == 1
    assert metric(daemon, "process_crash_looping", "shard") == 0
    assert readiness(daemon) == (200, "")  # the other one serves as well as ever
    assert daemon.said().count("keeps ending") == 1
    assert daemon.said().count("front 1 ended") == ENDS_OF_A_LOOP - 1


def test_a_shard_that_keeps_ending_makes_the_daemon_not_ready(
    serve: Serve, wait_until: WaitUntil
) -> None:
    daemon = serve(bundle())
    kill_again_and_again(daemon, "shard 0", wait_until)
    wait_until(lambda: readiness(daemon) == (503, "shard_unavailable"), LATE, "not ready")
    assert "not ready: shard_unavailable" in daemon.said()
    assert metric(daemon, "process_crash_looping", "shard") == 1
    assert daemon.decide("/a", {"X-API-Key": "k"}).status == 200  # on_error: allow


def test_a_shard_that_is_away_for_long_makes_the_daemon_not_ready_until_it_is_back(
    serve: Serve, wait_until: WaitUntil, tmp_path: Path
) -> None:
    daemon = serve(bundle(), python_path=tmp_path)
    # The next shard never gets anywhere.
    (tmp_path / "shard").mkdir()
    (tmp_path / "shard/__init__.py").touch()
    (tmp_path / "shard/__main__.py").write_text(
        "import pathlib, os, time\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    os.kill(daemon.pids()["shard 0"], signal.SIGKILL)
    wait_until((tmp_path / "pid").exists, LATE, "one that does nothing")
    wait_until(lambda: readiness(daemon) == (503, "shard_unavailable"), LATE, "not ready")
    assert daemon.decide("/a", {"X-API-Key": "k"}).status == 200
    shutil.rmtree(tmp_path / "shard")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    wait_until(lambda: readiness(daemon) == (200, ""), LATE, "ready again")
    assert "ready again" in daemon.said()
