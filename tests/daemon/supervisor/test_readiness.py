"""What `/readyz` says of the processes, as a table."""

import pytest

from daemon.supervisor.readiness import (
    FRONT_FAILING,
    GRACE_SECONDS,
    READY,
    SHARD_UNAVAILABLE,
    Standing,
    reason,
)

WELL = Standing(0.0, looping=False)
AWAY = Standing(GRACE_SECONDS, looping=False)
LOST = Standing(GRACE_SECONDS + 0.1, looping=False)
LOOPS = Standing(0.0, looping=True)


@pytest.mark.parametrize(
    ("shards", "fronts", "says"),
    [
        ([WELL, WELL], [WELL], READY),
        ([WELL, AWAY], [WELL], READY),
        ([WELL, LOST], [WELL], SHARD_UNAVAILABLE),
        ([WELL, LOOPS], [WELL], SHARD_UNAVAILABLE),
        ([WELL], [WELL, LOST], READY),
        ([WELL], [WELL, LOOPS], READY),
        ([WELL], [LOOPS, LOOPS], FRONT_FAILING),
        ([LOST], [LOOPS], SHARD_UNAVAILABLE),
    ],
)
def test_reason(shards: list[Standing], fronts: list[Standing], says: str) -> None:
    assert reason(shards, fronts) == says
