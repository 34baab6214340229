"""A daemon that faults happen to: started again as a service manager would, on the same state."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Daemon, _starter, wait_for

LATE = 60.0
PLENTY = 1_000_000_000
Serve = Callable[..., Daemon]


def budget(on_error: str = "reject") -> dict[str, Any]:
    """Return a bundle with one budget, a unit a request, by `X-API-Key`."""
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
    policy = {"selector": {"pathPrefix": "/"}, "rules": [rule]}
    return {"bundle_version": 1, "policies": [{"id": "money", "spec": policy}]}


def request_for(key: str) -> bytes:
    """Return the bytes of a request that spends one unit of `key`."""
    return (
        f"GET /v1/decision HTTP/1.1\r\nHost: edge.test\r\nX-Original-URI: /a\r\n"
        f"X-API-Key: {key}\r\n\r\n"
    ).encode()


@dataclass
class Stage:
    """One daemon after another on one state folder."""

    serve: Serve
    state: Path
    settings: dict[str, Any]
    bundle: dict[str, Any] = field(default_factory=budget)
    daemon: Daemon | None = None
    read: int = 0
    """Units that reading counters has cost, for who reads them again."""
    bodies: list[Daemon] = field(default_factory=list)
    """All daemons there were."""

    def start(self) -> Daemon:
        """Start it; what a killed one has left is taken over."""
        daemon = self.serve(self.bundle, state_dir=self.state, **self.settings)
        self.daemon = daemon
        self.bodies.append(daemon)
        return daemon

    @property
    def running(self) -> Daemon:
        """The daemon that runs."""
        assert self.daemon is not None
        return self.daemon

    def where(self) -> tuple[str, int] | None:
        """Return where it listens, None while it does not."""
        return None if self.daemon is None else ("127.0.0.1", self.daemon.port)

    def kill(self, role: str) -> None:
        """Kill one process and wait until another is in its place."""
        daemon = self.running
        if role == "supervisor":
            self.down(signal.SIGKILL)
            self.start()
            return
        wait_for(lambda: role in daemon.pids(), LATE, f"{role} to kill")
        old = daemon.pids()[role]
        with suppress(ProcessLookupError):
            os.kill(old, signal.SIGKILL)
        wait_for(lambda: daemon.pids().get(role, old) != old, LATE, f"a new {role}")

    def down(self, number: int) -> None:
        """Stop the daemon by a signal to its supervisor."""
        daemon, self.daemon = self.running, None
        daemon.process.send_signal(number)
        code = daemon.process.wait(LATE)
        assert code in {0, -number}, daemon.said()
        wait_for(lambda: not daemon.all_pids(), LATE, "every process gone")
        daemon.process.returncode = 0  # that is how it should end

    def spent(self, keys: Iterable[str]) -> dict[str, int]:
        """Return the units on the counters; reading costs one each, which is not among them."""
        return {key: PLENTY - self._left(key) - 1 for key in keys}

    def _left(self, key: str) -> int:
        deadline = time.monotonic() + LATE
        while True:
            answer = self.running.decide("/a", {"X-API-Key": key})
            if answer.status == 200:
                return int(answer.headers["ratelimit-remaining"])
            assert answer.status == 503, answer
            assert time.monotonic() < deadline, answer
            time.sleep(0.02)


@contextmanager
def stage(folder: Path, **settings: Any) -> Iterator[Stage]:  # noqa: ANN401 - variables
    """Run a daemon on a state folder for as long as this lasts."""
    with ExitStack() as stack:
        bundle = settings.pop("bundle", None) or budget()
        each = Stage(_starter(stack), folder / "state", settings, bundle)
        each.start()
        yield each
