"""Processes come and go; the service stays, or goes in order (behaviour §13.1, §13.3, §13.4)."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Daemon = Any
Policy = Callable[..., dict[str, Any]]
Serve = Callable[..., Daemon]
WaitUntil = Callable[..., None]

LATE = 10.0
"""Seconds that a loaded machine may take longer than promised."""
DELAY = 1.0


def slow_policy() -> dict[str, Any]:
    """Return a policy that delays every request below /slow/ by `DELAY`."""
    stages = [
        {"threshold_percent": 1, "action": "throttle", "delay_ms": int(DELAY * 1000)},
        {"threshold_percent": 100, "action": "reject"},
    ]
    rule = {
        "name": "spend",
        "limit_keys": ["header:x-api-key"],
        "algorithm": "cost_based",
        "algorithm_config": {
            "budget": 100,
            "period": "1d",
            "fixed_cost": 2,
            "staged_actions": stages,
        },
    }
    return {"id": "slow", "spec": {"selector": {"pathPrefix": "/slow/"}, "rules": [rule]}}


SLOW = {"X-Original-URI": "/slow/a", "X-API-Key": "k"}


@pytest.fixture(name="bundle")
def _bundle(bucket_policy: Policy) -> dict[str, Any]:
    policies = [bucket_policy("keys", "/key/", "header:x-api-key", 1000, 100_000), slow_policy()]
    return {"bundle_version": 1, "policies": policies}


@dataclass
class Load:
    """What a steady client saw: statuses, and when nobody answered."""

    statuses: list[int] = field(default_factory=list)
    lost: int = 0
    longest_gap: float = 0.0


@contextmanager
def light_load(daemon: Daemon) -> Iterator[Load]:
    """Ask again and again from one client that reconnects when it must."""
    load = Load()
    stop = threading.Event()

    def ask() -> None:
        connection = None
        last = time.monotonic()
        while not stop.is_set():
            try:
                connection = connection or daemon.connect()
                key = f"k{len(load.statuses)}"
                answer = connection.request(headers={"X-Original-URI": "/key/", "X-API-Key": key})
            except (OSError, EOFError):
                load.lost += 1
                if connection:
                    connection.close()
                connection = None
                continue
            load.statuses.append(answer.status)
            load.longest_gap = max(load.longest_gap, time.monotonic() - last)
            last = time.monotonic()
            time.sleep(0.005)
        if connection:
            connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield load
    finally:
        stop.set()
        thread.join()


def test_titles_tell_who_is_who(serve: Serve, bundle: object) -> None:
    daemon = serve(bundle, worker_processes=2, shards=3)
    pids = daemon.pids()
    roles = ["front 0", "front 1", "keeper", "shard 0", "shard 1", "shard 2", "supervisor"]
    assert sorted(pids) == roles
    assert pids["supervisor"] == daemon.process.pid
    assert len(daemon.all_pids()) == len(roles)


def test_any_child_may_be_killed_in_turn(
    serve: Serve, bundle: object, wait_until: WaitUntil
) -> None:
    daemon = serve(bundle, worker_processes=2, shards=2, owner_timeout_ms=50)
    with light_load(daemon) as load:
        for role in ("front 0", "shard 0", "front 1", "shard 1"):
            before = len(load.statuses)
            old = daemon.pids()[role]
            os.kill(old, signal.SIGKILL)
            wait_until(lambda o=old, r=role: daemon.pids().get(r, o) != o, LATE, f"a new {role}")
            wait_until(lambda b=before: len(load.statuses) > b + 20, LATE, "requests go on")
    assert set(load.statuses) == {200}
    assert load.lost <= 4  # at most what was under way on the killed one
    assert load.longest_gap < 1 + LATE
    assert "SIGKILL" in daemon.said()


def test_the_only_front_is_back_soon(serve: Serve, bundle: object) -> None:
    daemon = serve(bundle)
    os.kill(daemon.pids()["front 0"], signal.SIGKILL)
    began = time.monotonic()
    assert daemon.decide("/key/").status == 200  # it waits in the backlog meanwhile
    assert time.monotonic() - began < 1 + LATE


@pytest.mark.parametrize(("on_error", "status"), [("allow", 200), ("reject", 503)])
def test_without_its_counter_a_rule_does_what_on_error_says(
    serve: Serve, bundle: dict[str, Any], on_error: str, status: int
) -> None:
    bundle["policies"][0]["spec"]["rules"][0]["on_error"] = on_error
    daemon = serve(bundle, owner_timeout_ms=500)
    with daemon.connect() as connection:
        asked = {"X-Original-URI": "/key/", "X-API-Key": "k"}
        assert connection.request(headers=asked).status == 200
        shard = daemon.pids()["shard 0"]
        os.kill(shard, signal.SIGSTOP)
        try:
            began = time.monotonic()
            answer = connection.request(headers=asked)
            assert time.monotonic() - began < LATE
            assert connection.request("/livez").status == 200
        finally:
            os.kill(shard, signal.SIGCONT)
        assert answer.status == status
        if status == 503:
            assert answer.headers["x-fairvisor-reason"] == "counter_unavailable"
            assert int(answer.headers["retry-after"]) >= 1
        metrics = connection.request("/metrics").body.decode()
    line = f'fairvisor_degraded_decisions_total{{outcome="{on_error}",policy="keys"}} 1.0'
    assert line in metrics


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_answers_what_is_under_way(
    serve: Serve, bundle: object, wait_until: WaitUntil, number: int
) -> None:
    daemon = serve(bundle, unix=True, worker_processes=2)
    with daemon.connect("unix") as delayed, daemon.connect() as idle:
        assert idle.request("/livez").status == 200
        began = time.monotonic()
        delayed.ask(headers=SLOW)
        time.sleep(0.2)
        os.killpg(daemon.process.pid, number)
        wait_until(lambda: refuses(daemon), LATE, "new connections are refused")
        delayed.ask("/readyz")
        answer = delayed.answer()
        assert (answer.status, time.monotonic() - began >= DELAY) == (200, True)
        ready = delayed.answer()
        assert (ready.status, ready.headers["connection"]) == (503, "close")
        assert ready.body == b'{"status":"not_ready","reason":"shutting_down"}'
        assert delayed.rest() == idle.rest() == b""
    assert daemon.process.wait(LATE) == 0
    assert not Path(daemon.unix).exists()
    left = [path.name for path in daemon.folder.iterdir() if path.name.startswith("fairvisor-")]
    assert left == []


def refuses(daemon: Daemon) -> bool:
    try:
        daemon.connect().close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False
    return False


def test_a_request_sent_at_the_moment_of_the_signal_is_answered(
    serve: Serve, bundle: object
) -> None:
    daemon = serve(bundle)
    connections = [daemon.connect() for _ in range(8)]
    try:
        for connection in connections:
            assert connection.request("/livez").status == 200
        daemon.process.send_signal(signal.SIGTERM)
        for connection in connections:
            connection.ask("/livez")
        assert [connection.answer().body for connection in connections] == [b"ok"] * 8
    finally:
        for connection in connections:
            connection.close()
    assert daemon.process.wait(LATE) == 0


def test_a_stop_during_the_start_is_a_stop(serve: Serve, bundle: object) -> None:
    daemon = serve(bundle, ready=False, worker_processes=2)
    deadline = time.monotonic() + LATE
    while "supervisor" not in daemon.pids() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    began = time.monotonic()
    assert daemon.stop(signal.SIGTERM) in {0, -signal.SIGTERM}  # before it listens to signals
    assert time.monotonic() - began < LATE


def test_without_its_supervisor_no_process_is_left(
    serve: Serve, bundle: object, wait_until: WaitUntil
) -> None:
    daemon = serve(bundle, unix=True, worker_processes=2, shards=2)
    daemon.process.kill()
    daemon.process.wait()
    wait_until(lambda: not daemon.all_pids(), 2.0, "every process gone")


def test_what_a_killed_daemon_left_is_cleaned_up_by_the_next(
    serve: Serve, bundle: object, wait_until: WaitUntil
) -> None:
    first = serve(bundle, unix=True)
    first.process.kill()
    first.process.wait()
    wait_until(lambda: not first.all_pids(), 2.0, "every process gone")
    assert Path(first.unix).exists()
    second = serve(bundle, listen=f"127.0.0.1:0,unix:{first.unix}", tmpdir=first.folder)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(first.unix)
    assert second.stop() == 0
    assert not Path(first.unix).exists()
