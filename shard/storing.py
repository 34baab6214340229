"""The store of a running shard, as its loop sees it: restored, then written before every answer."""

import time
from collections.abc import Callable, Collection
from pathlib import Path

from protocol.frames import HELLO, FrameError, pack
from shard.peer import Peer
from shard.service import ShardService
from shard.stores.folder import StateFolder
from shard.stores.journal import Journal
from shard.stores.restore import Place, StoreOrders, Tell, restore

_TAIL_SECONDS = 60.0
"""A front that has not connected again by then is gone, too."""
_TURN_SECONDS = 0.25
_BUSY_SECONDS = 0.001


class Storing:
    """Counters come back when it is made. `peers` gives the fronts' links as they are."""

    def __init__(
        self,
        index: int,
        orders: StoreOrders,
        service: ShardService,
        tell: Tell,
        peers: Callable[[], Collection[Peer]],
    ) -> None:
        folder = StateFolder(Path(orders.folder))
        place = Place(orders.run, index, orders.shards, orders.life)
        self._peers = peers
        self._tails = restore(folder, place, service, time.time_ns() // 1000, tell)
        self._journal = Journal(folder, place, orders.durability, service, tell, self._links)
        self._born = time.monotonic()
        self._journal.open(self._born)

    @property
    def degraded(self) -> bool:
        """Whether a lost process would lose counters now."""
        return self._journal.degraded

    @property
    def patience(self) -> float:
        """How long the loop may wait for something to happen, in seconds."""
        return _BUSY_SECONDS if self._journal.busy else _TURN_SECONDS

    def greet(self, peer: Peer, message: list[object]) -> None:
        """Agree with a front on what of its link was applied by the shard that was here before.

        Raises:
            FrameError: that is no greeting.
        """
        match message:
            case [_, bytes(link), int(received)]:
                tail = self._tails.pop(link, None)
            case _:
                raise FrameError("not a greeting")
        peer.link = link
        if tail is None:
            peer.out += NOT_KNOWN
            return
        first, replies = tail.since(received)
        peer.applied, peer.replied = tail.applied, max(tail.replied, received)
        peer.out += pack([HELLO, tail.applied, first]) + replies

    def commit(self, served: Collection[Peer] = ()) -> None:
        """Keep what has changed, and free the replies to those that were served."""
        links = [part for peer in served for part in peer.told()]
        self._journal.commit(time.monotonic(), links)
        for peer in served:
            peer.out += peer.fresh
            peer.fresh = b""

    def go_on(self, now: float) -> None:
        """Do what is due between two turns; `now` is a monotonic time in seconds."""
        self._journal.tick(now)
        if self._tails and now - self._born > _TAIL_SECONDS:
            self._tails.clear()

    def take_snapshot(self) -> None:
        """Begin to write everything there is."""
        self._journal.take_snapshot(time.monotonic())

    def close(self) -> None:
        """Keep what has changed, on the disk."""
        self.commit()
        self._journal.close()

    def _links(self) -> list[object]:
        """Return how far every link is, those too whose fronts have not connected again."""
        links = [part for peer in self._peers() if not peer.fresh for part in peer.told()]
        for link, tail in self._tails.items():
            links += (link, tail.applied, tail.replied, b"")
        return links


NOT_KNOWN = pack([HELLO, -1, 0])
"""The greeting of a shard that knows nothing of a link's past."""
