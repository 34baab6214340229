"""Daemons for the tests of a module."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.e2e.conftest import _starter


@pytest.fixture(name="serve_all", scope="module")
def _serve_all() -> Iterator[Callable[..., Any]]:
    """Start daemons for all tests of a module, as the end-to-end tests do."""
    with ExitStack() as stack:
        yield _starter(stack)
