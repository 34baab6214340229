"""Ten thousand idle and two hundred slow connections: good clients do not notice (issue: survive).

Figures are compared within one run, and are those of `bench flood`. The machine that runs the tests
is shared, so a p99 is the median of windows' and has a floor; the processor time per request has no
neighbours, and shows what each connection costs everybody else.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from bench import flood
from tests.e2e.conftest import Daemon, _starter, bucket, wait_for

HEADER_TIMEOUT = 3.0
REQUESTS = 150
FLOOR_US = 20_000.0
"""A p99 below this is a busy machine's, whatever the daemon does."""
FLOOR_CPU_US = 200.0
"""What a request may cost more on a machine whose caches others use; ten thousand connections that
are looked at once for each request cost a millisecond."""
PER_CONNECTION = 8 << 10
"""Resident bytes of all processes for each idle connection."""
LEFT_BEHIND = 64 << 20
"""What an allocator may keep of a flood's memory; a second flood uses it again."""
LATE = 30.0


@pytest.fixture(name="serve")
def _serve() -> Iterator[Callable[..., Daemon]]:
    with ExitStack() as stack:
        yield _starter(stack)


def test_good_clients_do_not_notice_a_flood(serve: Callable[..., Daemon]) -> None:
    daemon = serve(
        {"bundle_version": 1, "policies": [bucket("p", "/", "header:x-api-key", 1e5, 1_000_000)]},
        trusted_proxies="127.0.0.1",
        header_timeout=HEADER_TIMEOUT,
        idle_timeout=300,
        state_dir="none",
    )
    pid, address = daemon.process.pid, ("127.0.0.1", daemon.port)
    with flood.good_clients(address) as clients:
        flood.phase("warm", pid, clients, REQUESTS)
        before = flood.phase("before", pid, clients, REQUESTS)
        during = flooded(daemon, clients)
        after = flood.phase("after", pid, clients, REQUESTS)
        again = flooded(daemon, clients)

    figures = (before, during, after, again)
    for phase in figures[1:]:
        assert phase.p99_us <= 2 * max(before.p99_us, FLOOR_US), figures
        assert phase.cpu_us <= 2 * before.cpu_us + FLOOR_CPU_US, figures
    connections = flood.IDLE + flood.SLOW
    assert during.descriptors - before.descriptors <= connections + flood.SLOW
    assert during.memory - before.memory <= connections * PER_CONNECTION
    assert after.memory - before.memory <= LEFT_BEHIND
    assert again.memory - during.memory <= LEFT_BEHIND / 4
    said = daemon.said()
    assert "refused a connection" not in said
    assert "WARNING" not in said


def flooded(daemon: Daemon, clients: list[object]) -> flood.Phase:
    """Return what good clients see while there is a flood; wait for its end to be noticed."""
    pid, address = daemon.process.pid, ("127.0.0.1", daemon.port)
    before = flood.descriptors(pid)
    with closing(flood.Flood(address)) as attack:
        attack.open(flood.IDLE, flood.SLOW)
        # The slow ones are cut off and come back, all of them once: that belongs to the flood.
        deadline = time.monotonic() + LATE
        while attack.reopened < flood.SLOW:
            assert time.monotonic() < deadline, "slow heads are not cut off"
            attack.drip()
            time.sleep(0.01)
        during = flood.phase("during", pid, clients, REQUESTS, attack)
        assert attack.standing == flood.IDLE
    wait_for(lambda: flood.descriptors(pid) <= before, LATE, "every descriptor given back")
    return during
