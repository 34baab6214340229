"""How many connections each peer has open in this front: an IPv4 address, or an IPv6 /64.

Rules
- A /64 is one peer, because whoever has one IPv6 address has its whole network (RFC 6177 §2).
- Only peers with a connection are remembered, so the connections bound the memory.
- Unix sockets and trusted proxies are not counted: a gateway is one peer that speaks for many
  clients, and what it opens is bounded by its listener (`FAIRVISOR_MAX_CONNECTIONS`).
"""

import socket

_NETWORK_BYTES = 8
_MAPPED = "::ffff:"


class PeerCounts:
    """Open connections by peer, at most `limit` each."""

    __slots__ = ("_counts", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: dict[str | bytes, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def enter(self, peer: str) -> str | bytes | None:
        """Count a connection in; return what to `leave` by, None if it is one too many."""
        who = whose(peer)
        count = self._counts.get(who, 0)
        if count >= self._limit:
            return None
        self._counts[who] = count + 1
        return who

    def leave(self, who: str | bytes) -> None:
        """Count a connection out; "" was never counted."""
        count = self._counts.get(who, 0)
        if count > 1:
            self._counts[who] = count - 1
        else:
            self._counts.pop(who, None)


def whose(peer: str) -> str | bytes:
    """Return what an address counts as: itself, or the first half of an IPv6 one."""
    if ":" not in peer:
        return peer
    if peer.startswith(_MAPPED) and "." in peer:
        return peer.removeprefix(_MAPPED)
    try:
        return socket.inet_pton(socket.AF_INET6, peer.partition("%")[0])[:_NETWORK_BYTES]
    except OSError:
        return peer
