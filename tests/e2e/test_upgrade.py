"""The program replaced under the same process id, while it serves (behaviour §13.4)."""

import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.upstreams.llm import Upstream

Daemon = Any
Serve = Callable[..., Daemon]
WaitUntil = Callable[..., None]

LATE = 120.0
PLENTY = 1_000_000
UPGRADES = 2


def budget(delay: float = 0.0) -> dict[str, Any]:
    stages: list[dict[str, Any]] = [{"threshold_percent": 100, "action": "reject"}]
    if delay:
        slow = {"threshold_percent": 0.0001, "action": "throttle", "delay_ms": int(delay * 1000)}
        stages = [slow, *stages]
    return {
        "name": "spend",
        "limit_keys": ["header:x-api-key"],
        "algorithm": "cost_based",
        "algorithm_config": {
            "budget": PLENTY,
            "period": "1mo",
            "fixed_cost": 1,
            "staged_actions": stages,
        },
    }


TOKENS = {
    "name": "tokens",
    "limit_keys": ["header:x-api-key"],
    "algorithm": "token_bucket_llm",
    "algorithm_config": {"tokens_per_minute": 10_000, "tokens_per_day": 100_000},
}


def bundle(version: int = 1) -> dict[str, Any]:
    rules = {"money": ("/a", budget()), "slow": ("/slow", budget(3.0)), "llm": ("/llm", TOKENS)}
    policies = [
        {"id": name, "spec": {"selector": {"pathExact": path}, "rules": [rule]}}
        for name, (path, rule) in rules.items()
    ]
    return {"bundle_version": version, "policies": policies}


def upgrade(daemon: Daemon, wait_until: WaitUntil) -> None:
    """Have the program replaced, and wait until the next one is ready."""
    before = daemon.said().count("ready on ")
    os.kill(daemon.process.pid, signal.SIGUSR2)
    wait_until(lambda: daemon.said().count("ready on ") > before, LATE, "the next program")


@dataclass
class Clients:
    """Clients that keep their connections while they may, or never do."""

    daemon: Daemon
    answered: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @contextmanager
    def asking(self, count: int) -> Iterator[None]:
        stop = threading.Event()
        ways = ("tcp", "unix")

        def ask(number: int) -> None:
            connection: Any = None
            headers = {"X-Original-URI": "/a", "X-API-Key": f"k{number}"}
            while not stop.is_set():
                try:
                    connection = connection or self.daemon.connect(ways[number % 2])
                    answer = connection.request(headers=headers)
                    self.answered.append(answer.status)
                    keeps = number % 4 < 2 and answer.headers.get("connection") != "close"
                except (OSError, EOFError) as error:
                    self.lost.append(repr(error))
                    keeps = False
                if not keeps and connection:
                    connection.close()
                    connection = None
                time.sleep(0.002)
            if connection:
                connection.close()

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(LATE)

    def spent(self, count: int) -> int:
        """Return how much is on the clients' counters."""
        total = 0
        for number in range(count):
            answer = self.daemon.decide("/a", {"X-API-Key": f"k{number}"})
            total += PLENTY - int(answer.headers["ratelimit-remaining"]) - 1
        return total


def metric(daemon: Daemon, pattern: str) -> float:
    with daemon.connect() as connection:
        text = connection.request("/metrics").body.decode()
    return sum(
        float(value) for value in re.findall(rf"^{pattern} ([0-9.e+]+)$", text, re.MULTILINE)
    )


def test_upgrades_under_load_lose_nothing(
    serve: Serve, wait_until: WaitUntil, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{tmp_path}")
        manager.setblocking(False)  # noqa: FBT003 - as the standard library has it
        daemon = serve(
            bundle(),
            unix=True,
            worker_processes=2,
            shards=2,
            plain={"NOTIFY_SOCKET": f"@{tmp_path}"},
        )
        pids = daemon.pids()
        clients = Clients(daemon)
        count = 8
        descriptors = []
        with clients.asking(count):
            for _ in range(UPGRADES):
                asked = len(clients.answered)
                wait_until(lambda a=asked: len(clients.answered) > a + 100, LATE, "requests")
                upgrade(daemon, wait_until)
                wait_until(lambda: "leaving" not in titles(daemon), LATE, "old fronts gone")
                descriptors.append(len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir())))
        told = [manager.recv(4096) for _ in range(3 + 2 * UPGRADES - 2)]
    assert clients.lost == []
    assert set(clients.answered) == {200}
    wait_until(
        lambda: metric(daemon, r"fairvisor_decisions_total\{.*\}") == len(clients.answered),
        LATE,
        "every decision counted, once",
    )
    assert metric(daemon, r"fairvisor_degraded_decisions_total\{.*\}") == 0
    assert metric(daemon, r"fairvisor_charges_unconfirmed_total\{.*\}") == 0
    assert clients.spent(count) == len(clients.answered)
    after = daemon.pids()
    assert after.keys() == pids.keys()
    assert after["supervisor"] == pids["supervisor"]
    assert not set(after.values()) & (set(pids.values()) - {pids["supervisor"]})
    assert descriptors[0] == descriptors[-1]
    with daemon.connect("admin") as connection:
        assert connection.request("/v1/admin/breakers").body == b"[]\n"
    kinds = [message.split(b"=")[0] for message in told]
    assert kinds == [b"READY"] + [b"RELOADING", b"READY"] * UPGRADES
    assert all(f"MAINPID={pids['supervisor']}".encode() in each for each in told[::2])


def titles(daemon: Daemon) -> str:
    """Return what the daemon's fronts are, as its log says: those that leave until they have."""
    said = daemon.said()
    left = sum(map(int, re.findall(r"upgrading: (\d+) front", said)))
    return "leaving" if said.count("has finished") < left else ""


def test_what_is_under_way_goes_on(serve: Serve, wait_until: WaitUntil) -> None:
    daemon = serve(bundle(), header_timeout=60)
    with daemon.connect() as slow, daemon.connect() as dripping:
        reservation = daemon.decide("/llm", {"X-API-Key": "k"}).headers["x-fairvisor-reservation"]
        slow.ask(headers={"X-Original-URI": "/slow", "X-API-Key": "k"})
        # half a request: it is decided when the shards are new
        dripping.send(b"GET /v1/decision HTTP/1.1\r\nHost: h\r\nX-Original-URI: /a\r\n")
        upgrade(daemon, wait_until)
        dripping.send(b"X-API-Key: k\r\n\r\n")
        answer = dripping.answer()
        assert (answer.status, answer.headers["ratelimit-remaining"]) == (200, str(PLENTY - 1))
        assert slow.answer().status == 200
        assert dripping.rest() == slow.rest() == b""
    usage = json.dumps({"reservation": reservation, "total_tokens": 1}).encode()
    with daemon.connect() as connection:
        asked = {"Content-Type": "application/json"}
        assert connection.request("/v1/settle", asked, "POST", usage).status == 204
    wait_until(lambda: "front 0, leaving, has finished" in daemon.said(), LATE, "the old front")
    again = daemon.decide("/a", {"X-API-Key": "k"})
    assert again.headers["ratelimit-remaining"] == str(PLENTY - 2)
    assert daemon.decide("/slow", {"X-API-Key": "k"}).headers["ratelimit-remaining"] == str(
        PLENTY - 2
    )
    assert metric(daemon, r"fairvisor_degraded_decisions_total\{.*\}") == 0


def test_a_stream_goes_on_and_is_settled_with_the_new_shards(
    serve: Serve, wait_until: WaitUntil
) -> None:
    rule = {
        "name": "tokens",
        "limit_keys": ["ip:address"],
        "algorithm": "token_bucket_llm",
        "algorithm_config": {"tokens_per_minute": 10**6, "tokens_per_day": 10**9},
    }
    spec = {"selector": {"pathPrefix": "/openai/"}, "rules": [rule]}
    document = {"bundle_version": 1, "policies": [{"id": "llm", "spec": spec}]}
    body = json.dumps(
        {
            "model": "gpt-4o",
            "stream": True,
            "max_tokens": 100,
            "messages": [{"role": "user", "content": "how are you?"}],
        }
    ).encode()
    with Upstream() as upstream:
        daemon = serve(
            document,
            mode="wrapper",
            wrapper_auth="passthrough",
            provider_openai_url=upstream.url,
        )
        with daemon.connect() as connection:
            asked = {"X-Mode": "gate", "Authorization": "Bearer sk-test"}
            connection.ask("/openai/v1/chat/completions", asked, "POST", body)
            first = connection.sock.recv(65_536)
            assert first.startswith(b"HTTP/1.1 200")
            upgrade(daemon, wait_until)
            assert metric(daemon, r'fairvisor_reservations\{shard="0"\}') == 1
            upstream.gate.set()
            assert b"[DONE]" in connection.rest()
        wait_until(
            lambda: metric(daemon, r'fairvisor_settlements_total\{outcome="used"\}') == 1,
            LATE,
            "settled",
        )
        (seen,) = upstream.seen
        actual = metric(daemon, r'fairvisor_tokens_consumed_total\{.*type="actual"\}')
        assert actual == seen.billed
        assert metric(daemon, r'fairvisor_reservations\{shard="0"\}') == 0


def test_a_version_that_cannot_start_is_not_taken(
    serve: Serve, wait_until: WaitUntil, tmp_path: Path
) -> None:
    daemon = serve(bundle(), python_path=tmp_path)
    before = daemon.pids()
    broken = tmp_path / "httptools.py"
    broken.write_text("raise ImportError('no parser for this processor')\n")
    os.kill(daemon.process.pid, signal.SIGUSR2)
    wait_until(lambda: "not upgraded: " in daemon.said(), LATE, "the refusal")
    assert "ImportError: no parser for this processor; the running version goes" in daemon.said()
    assert daemon.pids() == before
    assert daemon.decide("/a", {"X-API-Key": "k"}).status == 200
    broken.unlink()
    os.kill(daemon.process.pid, signal.SIGUSR2)
    wait_until(lambda: "upgrading: " in daemon.said(), LATE, "the last moment")
    assert daemon.stop() == 0  # whichever program hears it


def test_the_bundle_that_serves_and_sockets_of_systemd_go_on(
    serve: Serve, wait_until: WaitUntil, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "s"))
        held.listen(16)
        activated = str(Path(__file__).with_name("activated.py"))
        daemon = serve(
            bundle(),
            ready=False,
            through=(sys.executable, activated, "x", str(held.fileno()), "0"),
            fds=(held.fileno(),),
            file_poll_interval=0.05,
        )
        wait_until(lambda: "ready on " in daemon.said(), LATE, "ready")
        replace(daemon, json.dumps(bundle(7)))
        wait_until(lambda: "bundle_applied: version 7" in daemon.said(), LATE, "another bundle")
        replace(daemon, "{")
        wait_until(lambda: "bundle_rejected: " in daemon.said(), LATE, "a bad one")
        upgrade(daemon, wait_until)
        with daemon.connect_at(str(tmp_path / "s")) as connection:
            assert json.loads(connection.request("/readyz").body)["policy_version"] == 7
        replace(daemon, json.dumps(bundle(8)))
        wait_until(lambda: "bundle_applied: version 8" in daemon.said(), LATE, "the next bundle")
        assert daemon.said().count("bundle_rejected: ") == 1
        assert daemon.stop() == 0
        assert (tmp_path / "s").exists()


def replace(daemon: Daemon, text: str) -> None:
    """Put a bundle in place at once."""
    new = daemon.folder / "new"
    new.write_text(text)
    new.replace(daemon.folder / "policy.json")


def test_signals_at_the_wrong_moment_kill_nobody_and_a_kill_kills_all(
    serve: Serve, wait_until: WaitUntil
) -> None:
    daemon = serve(bundle(), file_poll_interval=60, header_timeout=60)
    half = daemon.connect()
    half.send(b"GET /v1/decision HTTP/1.1\r\n")  # this keeps the first front
    os.kill(daemon.process.pid, signal.SIGUSR2)
    stop = time.monotonic() + LATE
    while daemon.said().count("ready on ") < 2:
        assert time.monotonic() < stop, daemon.said()
        os.kill(daemon.process.pid, signal.SIGHUP)
        os.kill(daemon.process.pid, signal.SIGUSR2)
        time.sleep(0.01)
    assert daemon.process.poll() is None
    assert daemon.decide("/a", {"X-API-Key": "k"}).status == 200
    daemon.process.kill()
    daemon.process.wait()
    wait_until(lambda: not daemon.all_pids(), LATE, "every process gone, those that leave too")
    half.close()
