"""A shard's log while the disk takes it, and while not (§13.5)."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from shard.stores.folder import StateFolder
from shard.stores.segments import read_segment

OneShard = Any
Make = Callable[..., OneShard]


def settle_threads(shard: OneShard) -> None:
    """Let the thread behind the log do what it has to."""
    deadline = time.monotonic() + 10
    chain = shard.journal._chain
    while chain is not None and chain._spare is None and chain.error is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_what_is_committed_outlives_the_process(one_shard: Make) -> None:
    shard = one_shard()
    for key in ("a", "b", "a"):
        shard.spend(key)
    assert one_shard(life=2).used() == {"a": 2, "b": 1}


def test_what_is_not_committed_never_happened(one_shard: Make, folder: StateFolder) -> None:
    shard = one_shard()
    shard.spend("a")
    shard.spend("b")
    path = folder.file(shard.journal._chain.current.segment)
    path.write_bytes(path.read_bytes()[:-1])
    assert one_shard(life=2).used() == {"a": 1}


def test_segments_are_left_for_the_next(one_shard: Make, folder: StateFolder) -> None:
    shard = one_shard()
    for _ in range(4):
        settle_threads(shard)
        shard.spend("a")
        shard.pass_time(0.6)
    shard.journal.close()
    done = [segment for segment in folder.segments() if segment.done]
    assert len(done) >= 4
    assert all(read_segment(folder.file(each), each).shards == 1 for each in done)
    assert one_shard(life=2).used() == {"a": 4}


def test_an_idle_shard_leaves_its_segment_alone(one_shard: Make, folder: StateFolder) -> None:
    shard = one_shard()
    settle_threads(shard)
    shard.pass_time(60.0)
    assert len(folder.segments()) == 2  # the current one and the one that lies ready


@pytest.mark.parametrize("how", ["full", "broken"])
def test_a_bad_disk_means_memory_until_it_is_good_again(one_shard: Make, how: str) -> None:
    shard = one_shard()
    settle_threads(shard)
    for number in range(2500):
        shard.spend(f"k{number}")
    if how == "full":
        shard.disk.room = 10  # half a record
    else:
        shard.disk.broken = True
    shard.spend("k1")
    shard.spend("k2")
    shard.pass_time(10.0)
    assert shard.journal.degraded
    ((level, text),) = shard.told
    assert level == "error"
    assert "counters cannot be stored" in text
    assert {"full": "No space left", "broken": "Input/output error"}[how] in text
    lost = one_shard(life=2)
    assert lost.used()["k1"] == 1  # that is what memory means
    shard.disk.room, shard.disk.broken = 1 << 40, False
    shard.pass_time(10.0)
    assert not shard.journal.degraded
    assert shard.told[1:] == [("warning", "shard 0: counters are stored again")]
    shard.spend("k2")
    again = one_shard(life=3)
    assert again.used() == shard.used()
    assert again.used()["k2"] == 3


def test_changes_during_the_snapshot_are_in_it(one_shard: Make) -> None:
    shard = one_shard()
    for number in range(3000):
        shard.spend(f"k{number}")
    shard.disk.broken = True
    shard.spend("k0")
    shard.disk.broken = False
    shard.now += 3
    shard.journal.tick(shard.now)
    assert shard.journal.busy
    steps = 0
    while shard.journal.busy:
        shard.spend(f"k{steps}")
        shard.spend(f"new{steps}")
        shard.service.store._evict(0)
        shard.journal.tick(shard.now)
        steps += 1
    assert steps >= 3
    assert one_shard(life=2).used() == shard.used()


def test_long_histories_come_back_too(one_shard: Make) -> None:
    shard = one_shard()
    for _ in range(300):
        shard.spend("k", rule=1)
    again = one_shard(life=2)
    (state,) = shard.service.tables[1].states.values()
    assert [tuple(each) for each in again.service.tables[1].states.values()] == [tuple(state)]
    again.spend("k", rule=1)
    (longer,) = one_shard(life=3).service.tables[1].states.values()
    assert len(longer) == 301
