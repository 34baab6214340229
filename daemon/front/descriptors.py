"""File descriptors: as many as the system allows, and never so many connections that none is left.

A process that runs out of descriptors can accept nothing and cannot say so. Connections are
therefore turned away, and told why, while there are descriptors left for the daemon itself.
"""

import resource
from typing import NamedTuple

from daemon.settings import Settings

_OWN = 64
"""Listeners' and the loop's descriptors, logs, the control socket, files that are read at a reload;
links to shards come on top."""
_MAX_TURNED_AWAY = 256


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one; return what holds then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard or hard == resource.RLIM_INFINITY:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):  # a sandbox may forbid it
            return soft
    return hard


class Room(NamedTuple):
    """What a front may open: clients and those turned away per listener, upstreams in all."""

    clients: int
    turned_away: int
    upstream: int


def room(limit: int, *, shards: int, listeners: int, proxies: bool) -> Room:
    """Divide `limit` descriptors of a front; a client of a proxy needs a second one upstream."""
    left = max(limit - _OWN - shards - listeners, 0) if limit >= 0 else 1 << 30
    turned_away = min(_MAX_TURNED_AWAY, left // (8 * listeners) or 1)
    left -= turned_away * listeners
    upstream = left // 2 if proxies else 0
    return Room(max((left - upstream) // listeners, 1), turned_away, max(upstream, 1))


def front_room(settings: Settings, listeners: int) -> Room:
    """Return the room of a front under the limit that holds for this process."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return room(
        limit,
        shards=settings.shards,
        listeners=listeners,
        proxies=settings.mode != "decision_service",
    )
