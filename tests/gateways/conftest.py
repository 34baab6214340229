"""A running site for every gateway that keeps the contract."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from tests.e2e.conftest import _starter
from tests.gateways.bundles import CONTRACT
from tests.gateways.gateways import SUBJECTS, Subject
from tests.gateways.site import Serve, Site, site

WAYS = [(subject, way) for subject in SUBJECTS for way in subject.ways]


@pytest.fixture(name="serve")
def _serve() -> Iterator[Serve]:
    """Start daemons for one test."""
    with ExitStack() as stack:
        yield _starter(stack)


@pytest.fixture(
    name="contract_site",
    scope="module",
    params=WAYS,
    ids=[f"{subject.name}-{way}" for subject, way in WAYS],
)
def _contract_site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Run a site for all tests of a module; `a_key` keeps them apart."""
    subject, way = request.param
    with ExitStack() as stack:
        serve = _starter(stack)
        yield stack.enter_context(site(subject, way, serve, CONTRACT))


@pytest.fixture(name="subject", params=SUBJECTS, ids=lambda each: each.name)
def _subject(request: pytest.FixtureRequest) -> Subject:
    """Return one gateway after the other."""
    found: Subject = request.param
    return found


_numbers = count()


@pytest.fixture(name="a_key")
def _a_key() -> str:
    """Return an `X-Key` that no other test has used."""
    return f"key-{next(_numbers)}"
