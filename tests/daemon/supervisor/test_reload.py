"""Two phases, all or none: the reloader against children that the test plays."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from daemon.supervisor.bundles import BundleError, read_bundle, signature
from daemon.supervisor.reload import Reloader, acceptable
from protocol import control
from protocol.bundle import Problem
from protocol.signing import sign


class Player:
    """A child that does as it is told, unless it is deaf."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.prepared = 0
        self.switched = 0
        self.deaf = False
        self.killed = False
        self.heard: list[tuple[object, ...]] = []

    def tell(self, *message: object) -> None:
        self.heard.append(message)
        if self.deaf:
            return
        if message[0] == control.BUNDLE:
            self.prepared = message[1]  # type: ignore[assignment]
        elif message[0] == control.SWITCH:
            self.switched = message[1]  # type: ignore[assignment]

    def kill(self) -> None:
        self.killed = True

    def kinds(self) -> list[object]:
        return [message[:2] for message in self.heard]


def bundle(version: int, burst: int = 10, **more: object) -> bytes:
    rule = {
        "name": "r",
        "limit_keys": ["header:x-key"],
        "algorithm": "token_bucket",
        "algorithm_config": {"tokens_per_second": 1, "burst": burst},
    }
    policy = {"id": "p", "spec": {"selector": {"pathPrefix": "/"}, "rules": [rule]}}
    return json.dumps({"bundle_version": version, "policies": [policy], **more}).encode()


class House:
    """A bundle file, two shards, two fronts and their reloader."""

    def __init__(self, tmp_path: Path) -> None:
        self.file = tmp_path / "policy.json"
        self.file.write_bytes(bundle(1))
        self.shards = [Player("shard 0"), Player("shard 1")]
        self.fronts = [Player("front 0"), Player("front 1")]
        self.told: list[str] = []
        self.reloader = Reloader(
            str(self.file),
            read_bundle(str(self.file), now=0.0, signing_key=None),
            None,
            self.shards,  # type: ignore[arg-type]
            self.fronts,  # type: ignore[arg-type]
            self,
        )

    def offer(self, text: bytes, *, rollback: bool = False) -> bool:
        self.file.write_bytes(text)
        return asyncio.run(self.reloader.reload(rollback=rollback)).applied

    def applied(self) -> None:
        self.told.append(f"applied {self.version}")

    def rejected(self, problems: Sequence[Problem]) -> None:
        self.told.append(f"rejected {problems[0].path}")

    @property
    def version(self) -> int:
        return self.reloader.active.loaded.bundle.version


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_shards_prepare_before_fronts_and_fronts_before_the_switch(house: House) -> None:
    assert house.offer(bundle(2))
    assert house.version == 2
    for shard in house.shards:
        assert shard.kinds() == [(control.BUNDLE, 2)]
        assert shard.heard[0][3] == 1  # the active generation stays usable
    for front in house.fronts:
        assert front.kinds() == [(control.BUNDLE, 2), (control.SWITCH, 2)]
    assert house.told == ["applied 2"]
    assert house.reloader.active.number == 2


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff", b"[]", bundle(0), bundle(2, burst=-1), bundle(2, policies=[{"id": ""}])],
)
def test_what_is_not_valid_changes_nothing(house: House, text: bytes) -> None:
    assert not house.offer(text)
    assert house.version == 1
    assert not any(child.heard for child in house.shards + house.fronts)


def test_a_missing_file_changes_nothing_and_is_a_warning(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.file.unlink()
    reloaded = asyncio.run(house.reloader.reload(rollback=True))
    assert (reloaded.applied, reloaded.version) == (False, 1)
    assert "cannot be read" in reloaded.problems[0].message
    assert house.told == []
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_only_a_sighup_goes_back(house: House, caplog: pytest.LogCaptureFixture) -> None:
    assert house.offer(bundle(5))
    assert not house.offer(bundle(4))
    assert not house.offer(bundle(4))
    told = [each for each in caplog.messages if each.startswith("version_not_monotonic")]
    assert len(told) == 1
    assert house.told == ["applied 5", "rejected $.bundle_version"]
    assert house.offer(bundle(4), rollback=True)
    assert house.version == 4


def test_equal_content_is_no_reload(house: House) -> None:
    assert not house.offer(bundle(1), rollback=True)
    assert house.told == []


def test_the_same_version_with_other_content_needs_a_sighup(house: House) -> None:
    assert not house.offer(bundle(1, burst=11))
    assert house.offer(bundle(1, burst=11), rollback=True)


def test_a_deaf_shard_stops_the_reload_before_any_front_hears_of_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.supervisor.reload.PREPARE_SECONDS", 0.02)
    house.shards[1].deaf = True
    assert not house.offer(bundle(2))
    assert house.version == 1
    assert not any(front.heard for front in house.fronts)
    house.shards[1].deaf = False
    assert house.offer(bundle(2))
    assert house.reloader.active.number == 3  # a number is never used twice


def test_a_front_that_does_not_switch_is_replaced(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.supervisor.reload.SWITCH_SECONDS", 0.02)
    front = house.fronts[0]
    tell = front.tell

    def half_deaf(*message: object) -> None:
        if message[0] != control.SWITCH:
            tell(*message)

    front.tell = half_deaf  # type: ignore[method-assign]
    assert house.offer(bundle(2))
    assert front.killed
    assert not house.fronts[1].killed


def test_a_started_front_gets_what_is_active(house: House) -> None:
    house.offer(bundle(2))
    newcomer = Player("front 9")
    house.reloader.equip_front(newcomer)  # type: ignore[arg-type]
    assert newcomer.kinds() == [(control.BUNDLE, 2), (control.SWITCH, 2)]


@pytest.mark.parametrize(
    ("active", "offered", "rollback", "taken"),
    [(1, 2, False, True), (2, 2, False, False), (2, 1, False, False), (2, 1, True, True)],
)
def test_which_version_may_follow(active: int, offered: int, rollback: bool, taken: bool) -> None:  # noqa: FBT001 - a table
    assert acceptable(active, offered, rollback=rollback) is taken


def test_signed_bundles(tmp_path: Path) -> None:
    file = tmp_path / "policy.signed"
    file.write_bytes(sign(b"key", bundle(3)))
    assert read_bundle(str(file), now=0.0, signing_key=b"key").bundle.version == 3
    with pytest.raises(BundleError, match="invalid_signature"):
        read_bundle(str(file), now=0.0, signing_key=b"other")
    file.write_bytes(bundle(3))
    with pytest.raises(BundleError, match="signed"):
        read_bundle(str(file), now=0.0, signing_key=b"key")


def test_a_key_file_that_is_missing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    keys = {"keys": [{"id": "k", "algorithm": "RS256", "jwks_file": "keys.json"}]}
    file.write_bytes(bundle(1, jwt=keys))
    with pytest.raises(BundleError) as caught:
        read_bundle(str(file), now=0.0, signing_key=None)
    assert caught.value.problems[0].path == "$.jwt.keys[0].jwks_file"
    assert str(tmp_path / "keys.json") in caught.value.problems[0].message


def test_a_changed_key_file_is_a_change(tmp_path: Path) -> None:
    file, keys = tmp_path / "policy.json", tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    jwt = {"keys": [{"id": "k", "algorithm": "RS256", "jwks_file": "keys.json"}]}
    file.write_bytes(bundle(1, jwt=jwt))
    loaded = read_bundle(str(file), now=0.0, signing_key=None)
    before = signature(str(file), loaded)
    assert signature(str(file), loaded) == before
    keys.write_text('{"keys": [ ]}')
    assert signature(str(file), loaded) != before
