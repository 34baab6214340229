"""The daemon stops, hangs, comes back: the gateway does what its documentation says (§20)."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.conftest import Answer, wait_for
from tests.gateways.bundles import CONTRACT
from tests.gateways.gateways import SUBJECTS, Subject
from tests.gateways.site import Address, Serve, Site, short_folder, site, start_daemon

PATIENCE = 60.0
HURRIED_MS = 300
POLICIES = [(subject, policy) for subject in SUBJECTS for policy in subject.gateway.on_failure]
STOPS = [(subject, policy, way) for subject, policy in POLICIES for way in subject.ways]
STOP_IDS = [f"{subject.name}-{policy}-{way}" for subject, policy, way in STOPS]
IDS = [f"{subject.name}-{policy}" for subject, policy in POLICIES]


def passes(policy: str, method: str) -> bool:
    return policy == "open" or (policy == "reads-open" and method == "GET")


def ask_undecided(running: Site, policy: str, key: str) -> None:
    """Require the failure policy of a read and of a write."""
    for method in ("GET", "POST"):
        path = f"/few/{key}-{method}"
        body = b"whole body" if method == "POST" else None
        answer = running.ask(f"{path}?q=1", {"X-Key": key}, method, body)
        reached = running.service.at(path)
        if passes(policy, method):
            assert answer.status == 200
            assert (reached[0].method, reached[0].target) == (method, f"{path}?q=1")
            assert reached[0].body == (body or b"")
        else:
            unavailable(answer, json_body=running.subject.refuses_with_json)
            assert reached == []


def unavailable(answer: Answer, *, json_body: bool = True) -> None:
    assert answer.status == 503
    assert answer.headers["x-fairvisor-reason"] == "service_unavailable"
    assert int(answer.headers["retry-after"]) >= 1
    if json_body:
        assert json.loads(answer.body) == {"error": "service_unavailable"}


def decides(running: Site, key: str) -> bool:
    """Return whether the gateway has a decision again."""
    answer = running.ask("/any/x", {"X-Key": key})
    return answer.status == 200 and running.told(answer).get("ratelimit-limit") == "1000000"


def ask_decided(running: Site, key: str) -> None:
    statuses = [running.ask("/few/x", {"X-Key": key}).status for _ in range(3)]
    assert statuses == [200, 200, 429]


@pytest.fixture(name="address")
def _address(subject: Subject) -> Iterator[Address]:
    """Return an address that a daemon can come back to."""
    with short_folder() as folder:
        yield Address.fresh(folder, subject)


@pytest.mark.parametrize(("subject", "policy", "way"), STOPS, ids=STOP_IDS)
def test_a_stopped_daemon_and_its_return(  # noqa: PLR0913 - three choices and what they need
    subject: Subject, policy: str, way: str, serve: Serve, address: Address, a_key: str
) -> None:
    with site(subject, way, serve, CONTRACT, on_failure=policy, address=address) as running:
        ask_decided(running, f"{a_key}-before")
        assert running.daemon.stop() == 0
        ask_undecided(running, policy, f"{a_key}-down")
        start_daemon(serve, CONTRACT, address, way)
        wait_for(lambda: decides(running, a_key), PATIENCE, "decisions again")
        ask_decided(running, f"{a_key}-after")
        assert running.process.poll() is None


@contextmanager
def hanging(running: Site) -> Iterator[None]:
    """Let the process that answers the gateway accept connections and answer nothing."""
    grpc = running.subject.gateway.asks == "grpc"
    front = running.daemon.pids()["envoy" if grpc else "front 0"]
    os.kill(front, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(front, signal.SIGCONT)


@pytest.mark.parametrize(("subject", "policy"), POLICIES, ids=IDS)
def test_a_daemon_that_hangs_and_goes_on(
    subject: Subject, policy: str, serve: Serve, a_key: str
) -> None:
    way = subject.ways[0]
    with site(subject, way, serve, CONTRACT, on_failure=policy, timeout_ms=HURRIED_MS) as running:
        wait_for(lambda: decides(running, a_key), PATIENCE, "a first decision")
        with hanging(running):
            ask_undecided(running, policy, f"{a_key}-hung")
        wait_for(lambda: decides(running, a_key), PATIENCE, "decisions again")
