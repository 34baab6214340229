"""Shards on a state folder in one process: what a daemon's processes do, step by step."""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from protocol.frames import DECIDE
from protocol.operations import RuleSpec
from protocol.placement import placement
from shard.service import ShardService
from shard.stores.folder import StateFolder
from shard.stores.journal import Journal
from shard.stores.keeper import Keeper
from shard.stores.restore import Place, restore
from shard.stores.segments import Files

S = 1_000_000
T0 = 1_770_000_000 * S
BUDGET: dict[str, Any] = {"budget": 10**6 * S, "period": "1mo", "timezone": "UTC"}
SPECS = [
    RuleSpec("cost_based", "enforce:1:p:5:spend10:cost_based3:1mo3:UTC0:4:jwt:",
             0, shadow=False, params=BUDGET),
    RuleSpec("loop", "enforce:1:p:loop:60", 0, shadow=False,
             params={"window_seconds": 60, "threshold": 900, "reject": True}),
]  # fmt: skip


@dataclass
class Disk:
    """Takes writes until it is full or broken."""

    broken: bool = False
    room: int = 1 << 40

    def write(self, fd: int, data: bytes) -> int:
        if self.broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = os.write(fd, data[: self.room])
        self.room -= taken
        return taken

    def sync(self, _fd: int) -> None:
        if self.broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    @property
    def files(self) -> Files:
        return Files(self.write, self.sync)


@dataclass
class OneShard:
    """One life of one shard. `now` is its monotonic clock."""

    folder: StateFolder
    place: Place
    disk: Disk = field(default_factory=Disk)
    told: list[tuple[str, str]] = field(default_factory=list)
    now: float = 0.0
    started: int = T0
    service: ShardService = field(init=False)
    journal: Journal = field(init=False)

    def __post_init__(self) -> None:
        self.service = ShardService(1 << 24, 3600 * S, recovered=True)
        self.service.install(1, SPECS)
        restored = restore(self.folder, self.place, self.service, self.started, self.tell)
        self.links, self.newest = restored.links, restored.newest
        self.journal = Journal(
            self.folder,
            self.place,
            "crash",
            self.service,
            self.tell,
            list,
            self.disk.files,
        )
        self.journal.open(self.now)

    def tell(self, level: str, text: str) -> None:
        self.told.append((level, text))

    def spend(self, key: str, rule: int = 0) -> None:
        """Spend a unit, and log it before it is answered."""
        self.service.answer([DECIDE, 1, T0, [[rule, key, S]]])
        self.journal.commit(self.now, [])

    def pass_time(self, seconds: float) -> None:
        """Let the loop turn for a while."""
        for _ in range(20):
            self.now += seconds / 20
            self.journal.tick(self.now)

    def die(self) -> None:
        """Be killed: nothing is completed, nothing is told."""
        chain, self.journal._chain = self.journal._chain, None
        if chain is not None:
            chain._work.put(None)
            chain._thread.join()
            os.close(chain.current.fd)

    def used(self) -> dict[object, int]:
        """Return the units spent by key."""
        states = self.service.tables[0].states
        return {key: state[2] // S for key, state in states.items() if state}


@dataclass
class Cluster:
    """A daemon's shards and keeper over several runs."""

    folder: StateFolder
    keeper: Keeper | None = None
    shards: list[OneShard] = field(default_factory=list)
    run: int = 0
    told: list[tuple[str, str]] = field(default_factory=list)
    steady: int = 0
    """Seconds of a clock that nobody sets."""

    def tell(self, level: str, text: str) -> None:
        self.told.append((level, text))

    def start(self, shards: int, now: int = T0 // S) -> None:
        """Start a daemon, at a time of day in seconds; whatever ran before was killed."""
        for shard in self.shards:
            shard.die()
        steady = lambda: self.steady * 10**9  # noqa: E731 - said once
        self.keeper = Keeper(self.folder, 3600 * S, self.tell, steady=steady)
        self.run = self.keeper.start(0, now)
        self.shards = [
            OneShard(self.folder, Place(self.run, shard, shards, 1), started=now * S)
            for shard in range(shards)
        ]

    def kill_shard(self, number: int) -> None:
        """Have a shard's next life take over; nothing of the last is closed."""
        self.shards[number].die()
        place = self.shards[number].place
        following = Place(place.run, number, place.shards, place.life + 1)
        self.shards[number] = OneShard(self.folder, following)

    def spend(self, key: str) -> None:
        self.shards[placement(key) % len(self.shards)].spend(key)

    def used(self) -> dict[object, int]:
        """Return the units spent by key; no key is on two shards."""
        found: dict[object, int] = {}
        for number, shard in enumerate(self.shards):
            for key, units in shard.used().items():
                assert isinstance(key, str)
                assert placement(key) % len(self.shards) == number
                assert key not in found
                found[key] = units
        return found


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    return folder


@pytest.fixture(name="cluster")
def _cluster(folder: StateFolder) -> Iterator[Cluster]:
    cluster = Cluster(folder)
    yield cluster
    for shard in cluster.shards:
        shard.die()


@pytest.fixture(name="one_shard")
def _one_shard(folder: StateFolder) -> Iterator[Callable[..., OneShard]]:
    made = []

    def make(life: int = 1, **about: Any) -> OneShard:  # noqa: ANN401 - fields of OneShard
        made.append(OneShard(folder, Place(1, 0, 1, life), **about))
        return made[-1]

    yield make
    for shard in made:
        shard.die()
