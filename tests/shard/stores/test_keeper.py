"""Runs, kills, folds and other numbers of shards: every unit is on one counter, once (§13.1)."""

import sqlite3
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shard.stores import database, keeper
from shard.stores.folder import StateError, StateFolder
from shard.stores.keeper import Keeper
from shard.stores.schema import open_database, transaction

Cluster = Any
T0 = 1_770_000_000
KEYS = st.sampled_from([f"key-{number}" for number in range(12)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("spend"), st.lists(KEYS, min_size=1, max_size=8)),
        st.tuples(st.just("start"), st.integers(1, 5)),
        st.tuples(st.just("kill"), st.integers(0, 4)),
        st.tuples(st.just("fold"), st.sampled_from(["", "before", "after", "unlinked"])),
        st.tuples(st.just("tear"), st.integers(1, 30)),
    ),
    max_size=15,
)


class KilledError(BaseException):
    """The keeper is killed here."""


def killed(*_: object) -> None:
    raise KilledError


def fold(cluster: Cluster, where: str) -> None:
    """Fold what is complete; be killed before or after the commit, or once files are gone."""
    with pytest.MonkeyPatch.context() as patch:
        if where == "before":
            patch.setattr(database, "fold", killed)
        elif where == "after":
            patch.setattr(keeper.os, "unlink", killed)
        elif where == "unlinked":
            patch.setattr(database, "unfold", killed)
        try:
            cluster.keeper.turn(T0, everything=True)
        except KilledError:
            assert where
    if where:
        cluster.keeper = Keeper(cluster.folder, 3600 * 10**6, cluster.tell)
        assert cluster.keeper.start(cluster.run, T0) == cluster.run


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(STEPS, st.sampled_from([1, 5, keeper.FOLD_COUNTERS]))
def test_every_unit_is_counted_once(
    tmp_path_factory: pytest.TempPathFactory, cluster: Cluster, steps: list[Any], most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeper, "FOLD_COUNTERS", most)
        _count_every_unit(tmp_path_factory, cluster, steps)


def _count_every_unit(
    tmp_path_factory: pytest.TempPathFactory, cluster: Cluster, steps: list[Any]
) -> None:
    folder = StateFolder(tmp_path_factory.mktemp("state"))
    folder.create()
    cluster = type(cluster)(folder)
    cluster.start(3)
    spent: Counter[str] = Counter()
    for what, how in steps:
        match what:
            case "spend":
                for key in how:
                    cluster.spend(key)
                    spent[key] += 1
            case "start":
                cluster.start(how)
            case "kill":
                cluster.kill_shard(how % len(cluster.shards))
            case "fold":
                fold(cluster, how)
            case "tear":
                # a record that was being written when the power went; it was never answered
                shard = cluster.shards[how % len(cluster.shards)]
                chain = shard.journal._chain
                with folder.file(chain.current.segment).open("ab") as torn:
                    torn.write(b"\x20\0\0\0torn"[:how])
                cluster.kill_shard(how % len(cluster.shards))
        assert cluster.used() == spent
    for shards in (2, 7):
        cluster.start(shards)
        assert cluster.used() == spent
    assert {each.run for each in folder.segments()} == {cluster.run}
    assert [text for level, text in cluster.told if level == "error"] == []
    for shard in cluster.shards:
        shard.die()


def test_a_run_has_a_number_of_its_own(folder: StateFolder) -> None:
    numbers = []
    for _ in range(3):
        each = Keeper(folder, None, print)
        numbers.append(each.start(0, T0))
        each.finish(T0)
    assert numbers == [1, 2, 3]
    folder.database.unlink()
    (folder.log / "00000041-000-000001-0000000001.log").touch()
    assert Keeper(folder, None, print).start(0, T0) == 42


def spend_in_segments(cluster: Cluster, keys: list[str]) -> None:
    """Have one shard write a segment for each key, and complete them."""
    cluster.start(1)
    (shard,) = cluster.shards
    for key in keys:
        shard.spend(key)
        while shard.journal._chain._spare is None:
            pass
        shard.pass_time(0.6)
    shard.journal.close()


@pytest.mark.parametrize("most", [1, keeper.FOLD_COUNTERS])
def test_a_damaged_segment_is_set_aside_and_the_rest_counts(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(keeper, "FOLD_COUNTERS", most)
    spend_in_segments(cluster, ["k", "k", "k"])
    first = cluster.folder.segments()[0]
    path = cluster.folder.file(first)
    path.write_bytes(path.read_bytes()[:-3])
    cluster.start(1)
    assert cluster.used() == {"k": 3}  # the later states say it all
    (aside,) = cluster.folder.log.glob("*.damaged-*")
    (line,) = [text for level, text in cluster.told if level == "error"]
    assert str(path) in line
    assert str(aside) in line


def test_a_transaction_ends_when_it_touches_enough(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    spend_in_segments(cluster, ["a", "a", "b", "c", "c", "d", "e"])
    monkeypatch.setattr(keeper, "FOLD_COUNTERS", 2)
    fold, found = database.fold, []

    def watched(connection: Any, image: Any, *rest: Any) -> int:  # noqa: ANN401 - passed on
        found.append(sorted(key for counters in image.counters.values() for key in counters))
        return fold(connection, image, *rest)

    monkeypatch.setattr(database, "fold", watched)
    cluster.keeper = Keeper(cluster.folder, None, cluster.tell)
    cluster.keeper.start(0, T0)
    assert found[:3] == [["a", "b"], ["c", "d"], ["e"]]
    rows = cluster.keeper.connection.execute("SELECT key FROM counters").fetchall()
    assert rows == [(key,) for key in "abcde"]


def test_a_transaction_ends_when_it_has_read_enough(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long log of few counters must not keep the supervisor waiting for a sign of life."""
    spend_in_segments(cluster, ["a", "a", "a"])
    monkeypatch.setattr(keeper, "FOLD_BYTES", 1)
    signs: list[None] = []
    cluster.keeper = Keeper(cluster.folder, None, cluster.tell, lambda: signs.append(None))
    cluster.keeper.start(0, T0)
    assert len(signs) >= 3
    assert cluster.keeper.connection.execute("SELECT key FROM counters").fetchall() == [("a",)]


def test_a_full_disk_leaves_the_logs_and_is_told_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.start(2)
    cluster.spend("k")

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(database, "fold", full)
        cluster.start(3)
        assert cluster.used() == {"k": 1}
        cluster.spend("k")
        cluster.keeper.turn(T0, everything=True)
        cluster.start(2)
        assert cluster.used() == {"k": 2}
    assert len({text for _, text in cluster.told}) == 1
    assert "cannot be written: database or disk is full" in cluster.told[0][1]
    cluster.keeper.turn(T0, everything=True)
    assert cluster.told[-1] == ("warning", f"{cluster.folder.database} is written again")
    cluster.start(1)
    assert cluster.used() == {"k": 2}


def test_a_database_of_a_newer_version_is_left_alone(folder: StateFolder) -> None:
    connection = open_database(folder.database)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateError, match="version 99, this program knows 2"):
        Keeper(folder, None, print).start(0, T0)
    assert list(folder.path.glob("*.damaged-*")) == []


def test_what_has_expired_goes_from_the_database(cluster: Cluster) -> None:
    cluster.start(1)
    cluster.spend("k")
    cluster.shards[0].spend("digest", rule=1)
    cluster.start(1)
    connection = cluster.keeper.connection
    assert connection.execute("SELECT count(*) FROM counters").fetchone() == (2,)
    cluster.steady += 3600
    cluster.keeper.turn(T0 + 3600)
    rows = connection.execute("SELECT algorithm FROM state").fetchall()
    assert rows == [("cost_based",)]
    cluster.steady += 40 * 86_400
    cluster.keeper.turn(T0 + 40 * 86_400)
    assert connection.execute("SELECT count(*) FROM rules").fetchone() == (0,)


def test_a_clock_far_ahead_drops_nothing_until_it_has_run_for_a_while(cluster: Cluster) -> None:
    far = T0 + 400 * 86_400
    cluster.start(2)
    cluster.spend("k")
    cluster.start(3, far)  # a machine whose clock is not set yet
    assert cluster.used() == {"k": 1}
    cluster.steady += 60
    cluster.keeper.turn(far + 700)
    cluster.start(2)  # it has been set right
    assert cluster.used() == {"k": 1}
    assert [shard.newest for shard in cluster.shards] == [T0 * 10**6] * 2
    # One that goes on like that is right.
    cluster.start(1, far)
    cluster.keeper.turn(far, everything=True)
    cluster.steady += 700
    cluster.keeper.turn(far + 700)
    assert cluster.keeper.connection.execute("SELECT count(*) FROM counters").fetchone() == (0,)


def test_a_transaction_is_all_or_nothing(folder: StateFolder) -> None:
    connection = open_database(folder.database)

    def add_and_be_killed() -> None:
        with transaction(connection):
            connection.execute("INSERT INTO folded VALUES ('x')")
            killed()

    with pytest.raises(KilledError):
        add_and_be_killed()
    assert database.folded(connection) == set()
    connection.close()
