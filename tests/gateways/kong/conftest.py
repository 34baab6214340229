"""Daemons for all tests of a module, and waiting."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.conftest import _starter, wait_for
from tests.gateways.kong.stage import BUNDLE, Gate, gateway
from tests.gateways.site import Serve


@pytest.fixture(name="serve_all", scope="module")
def _serve_all() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield _starter(stack)


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., None]:
    return wait_for


@pytest.fixture(name="gate", scope="module")
def _gate(serve_all: Serve) -> Iterator[Gate]:
    daemon = serve_all(BUNDLE, unix=True, worker_processes=2, shards=2)
    with gateway(daemon) as (ask, upstream, _):
        yield ask, upstream, daemon
