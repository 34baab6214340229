"""Generated requests that are none: answered or refused, and nothing of them stays (§10.1)."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.conftest import _starter
from tests.faults.blobs import SEEDS, blobs
from tests.faults.malformed import malformed
from tests.faults.stage import Serve

SECONDS = 60.0
WARM, MEASURED = 640, 2560
"""Requests of each of two clients; `scripts/soak malformed` sends a million."""


@pytest.fixture(name="serve")
def _serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield _starter(stack)


@pytest.mark.parametrize("mode", ["decision_service", "hybrid"])
def test_malformed_requests_do_no_harm(serve: Serve, mode: str) -> None:
    run = malformed(serve, mode, 1, (SECONDS, SECONDS), (WARM, MEASURED))
    assert run.outcomes.total() >= 2 * (WARM + MEASURED)
    assert run.unexplained == []
    # Both ends of the range are there: what is right is served, what is wrong is refused.
    assert min(run.outcomes[name] for name in ("200", "400", "431")) > 0
    assert run.descriptors_grown <= 16
    assert run.memory_grown <= 32 << 10


def test_the_same_seed_gives_the_same_requests() -> None:
    first, second = blobs(5), blobs(5)
    some = [next(first) for _ in range(200)]
    assert some == [next(second) for _ in range(200)]
    assert len(set(some)) > 150
    assert any(blob in SEEDS for blob in some)
