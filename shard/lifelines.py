"""The fronts' lifelines: pipes whose other ends live and die with the fronts (`protocol.answered`).

A lifeline that ends is told by the poll again and again. Once nothing is left to read of the dead
front's link, undos and settlements too, what it never answered is given back.
"""

import os
import select
import socket

from protocol.answered import DESCRIPTORS
from protocol.frames import FrameError
from shard.peer import Peer
from shard.service import ShardService
from shard.unanswered import Unanswered


class Lifelines:
    """The links whose fronts may die unanswered, by their lifelines' descriptors."""

    def __init__(self, poll: select.epoll) -> None:
        self._poll = poll
        self._peers: dict[int, Peer] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def get(self, lifeline: int) -> Peer | None:
        """Return whose lifeline a descriptor is."""
        return self._peers.get(lifeline)

    def greeted(self, peer: Peer, numbered: int) -> None:
        """Take the descriptors that came with a greeting, if they did.

        Raises:
            FrameError: they are something else.
        """
        for lifeline, other in tuple(self._peers.items()):
            if other.link == peer.link:  # its front lost this link, and lives
                self._forget(lifeline)
        if len(peer.handed) < DESCRIPTORS:
            return
        page, lifeline = peer.handed
        try:
            self._poll.register(lifeline, 0)  # its end is told unasked
        except OSError as error:
            raise FrameError(f"a greeting without a lifeline: {error}") from None
        peer.handed = []
        peer.unanswered = Unanswered(page, lifeline, numbered)
        self._peers[lifeline] = peer

    def ended(self, lifeline: int, service: ShardService) -> int:
        """Give back what a dead front never answered; return of how many requests."""
        unanswered = self._peers[lifeline].unanswered
        count = 0 if unanswered is None else unanswered.give_back(service)
        self._forget(lifeline)
        return count

    def _forget(self, lifeline: int) -> None:
        peer = self._peers.pop(lifeline)
        self._poll.unregister(lifeline)
        if peer.unanswered is not None:
            peer.unanswered.close()
            peer.unanswered = None


def receive_first(peer: Peer, size: int) -> bytes:
    """Return what a front says before it has greeted; descriptors may come with it.

    Raises:
        OSError: as of recvmsg(2).
    """
    data, handed, _, _ = socket.recv_fds(peer.sock, size, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    room = DESCRIPTORS - len(peer.handed)
    peer.handed += handed[:room]
    for useless in handed[room:]:
        os.close(useless)
    return data
