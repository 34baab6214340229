"""The state folder as the supervisor sees it: locked, kept by one process, written by shards."""

import logging
import os
import secrets
from collections import Counter
from contextlib import suppress
from pathlib import Path

from daemon.settings import Settings
from daemon.state_secret import SECRET_BYTES, keep_secret
from daemon.supervisor.handover import Handover
from shard.stores.folder import StateError, StateFolder

log = logging.getLogger("fairvisor")

_LEVELS = logging.getLevelNamesMapping()


class Storage:
    """Where counters are stored, if they are. `lock` is a descriptor that children inherit."""

    def __init__(self, settings: Settings) -> None:
        self._durability = settings.durability
        self._shards = settings.shards
        self._ttl = int(settings.reservation_ttl * 1_000_000)
        self._lives: Counter[int] = Counter()
        self.path: Path | None = settings.state_dir
        self.lock = -1
        self.run = 0
        self.secret = secrets.token_bytes(SECRET_BYTES)
        """The key of digests and jitter, kept where there is a folder to keep it in."""

    def adopt(self, left: Handover) -> None:
        """Go on in the folder that the program before this one holds."""
        self.lock = left.lock
        self.secret = left.secret
        if left.lives and len(left.lives) == self._shards:
            self.run = left.run
            self._lives.update(dict(enumerate(left.lives)))
        # with another number of shards it is another run

    @property
    def lives(self) -> list[int]:
        """How many lives each shard has had in this run."""
        return [self._lives[shard] for shard in range(self._shards)]

    def take(self) -> None:
        """Make the folder and lock it, or do nothing without one.

        Raises:
            StateError: it cannot be had; one line that names the variable and the fix.
        """
        if self.path is None:
            return
        folder = StateFolder(self.path)
        try:
            folder.create()
            self.lock = folder.lock()
            with suppress(OSError):  # a full disk must not keep the daemon from starting
                self.secret = keep_secret(self.path)
        except StateError as error:
            raise unusable(error) from None

    def release(self) -> None:
        """Let go of the folder; children that still live hold it for themselves."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def keeper_settings(self) -> dict[str, int]:
        """Return what the keeper is configured with."""
        return {"reservation_ttl": self._ttl, "run": self.run}

    def shard_orders(self, shard: int) -> dict[str, object] | None:
        """Return what a shard that is just starting is told of its store; None for no store."""
        if self.path is None:
            return None
        self._lives[shard] += 1
        return {
            "folder": str(self.path),
            "durability": self._durability,
            "run": self.run,
            "shards": self._shards,
            "life": self._lives[shard],
        }


def unusable(error: StateError) -> StateError:
    """Return what is wrong with the state folder, with the variable that names it and the fix."""
    return StateError(
        f"FAIRVISOR_STATE_DIR: {error}; set it to a folder of this daemon's own,"
        " or to none for counters in memory only"
    )


def notice(level: str, text: str) -> None:
    """Put what a child has to say into the log."""
    log.log(_LEVELS.get(level.upper(), logging.WARNING), "%s", text)
