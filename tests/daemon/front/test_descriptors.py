"""How a front's descriptors are divided: some are always left for the daemon itself."""

import resource
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from daemon.front.descriptors import room


@given(
    limit=st.integers(256, 1 << 20),
    shards=st.integers(1, 64),
    listeners=st.integers(1, 4),
    proxies=st.booleans(),
)
def test_what_may_be_open_fits_and_leaves_a_reserve(
    limit: int, shards: int, listeners: int, *, proxies: bool
) -> None:
    found = room(limit, shards=shards, listeners=listeners, proxies=proxies)
    clients = found.clients * listeners
    upstream = found.upstream if proxies else 0
    opened = clients + upstream + found.turned_away * listeners
    assert opened + 64 + shards + listeners <= limit + 8
    assert not proxies or upstream >= clients - listeners


def test_no_limit_is_no_bound() -> None:
    found = room(resource.RLIM_INFINITY, shards=1, listeners=1, proxies=False)
    assert found.clients > 1 << 20


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    program = (
        "import resource; from daemon.front.descriptors import raise_limit;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300)); print(raise_limit());"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert found.stdout.decode().split() == ["300", "300", "300"]
