"""Spend circuit breakers from outside: which are open, and closing them by hand (§5.8, §17).

Rules
- A shard may own a million breakers, and fronts wait for it: whatever is done to all of them is
  done in steps, with requests answered in between.
- A step resets as of a moment of its own, after every charge made so far. What a request in flight
  charged before is gone with the rest; taking it back later changes nothing.
- Tables of several generations share the states of equal identities, so each identity counts once.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from itertools import islice

from protocol.operations import Key
from shard.algorithms.breaker import BreakerLimiter
from shard.tables import CounterTable
from shard.transaction import store

STEP = 1_024
"""Breakers that are reset in one go: about 0.7 ms of work."""
LISTED = 1_000
"""Open breakers of a shard that are listed."""
_LOOKED_AT = 20_000

Breakers = Mapping[str, tuple[CounterTable, BreakerLimiter]]
Open = tuple[str, Key, int, int | None]
"""Identity, key, when it opened and when it resets itself, in microseconds since the epoch."""


def breakers(tables: Iterable[CounterTable]) -> Breakers:
    """Return the breakers among some tables by identity, the last of equal ones."""
    return {
        table.identity: (table, limiter)
        for table in tables
        if isinstance(limiter := table.limiter, BreakerLimiter)
    }


def any_open(found: Breakers, now: int) -> list[str]:
    """Return the identities of which some breaker is open."""
    return [
        identity
        for identity, (table, limiter) in found.items()
        if next(_open(table, limiter, now), None) is not None
    ]


def listed(found: Breakers, now: int) -> tuple[list[Open], bool]:
    """Return the open breakers, and whether there may be more than are told."""
    told: list[Open] = []
    for identity, (table, limiter) in found.items():
        for key, opened, resets in _open(table, limiter, now):
            if len(told) == LISTED:
                return told, True
            told.append((identity, key, opened, resets))
    return told, any(len(table.refusing) > _LOOKED_AT for table, _ in found.values())


def _open(
    table: CounterTable, limiter: BreakerLimiter, now: int
) -> Iterator[tuple[Key, int, int | None]]:
    """Yield the open ones among the last that refused, and forget those that are closed."""
    refusing, states = table.refusing, table.states
    for key in list(islice(reversed(refusing), _LOOKED_AT)):
        times = limiter.opened(states.get(key), now)
        if times is None:
            del refusing[key]
        else:
            yield key, *times


def reset(
    found: Breakers,
    identities: Collection[str],
    keys: Collection[Key] | None,
    now: int,
    moment: Callable[[], int],
) -> Generator[None, None, int]:
    """Reset breakers by hand, those of some keys or all; return how many were open at `now`.

    Yields after every step. `moment` returns a time in microseconds that lies after every charge
    made so far and not after any that is still to come; it need not be the time of the day.
    """
    closed = 0
    for identity in identities:
        if identity not in found:
            continue
        table, limiter = found[identity]
        waiting = iter(list(table.states) if keys is None else keys)
        while step := list(islice(waiting, STEP)):
            since = moment()
            for key in step:
                state = table.states.get(key)
                if state is not None:
                    closed += limiter.opened(state, now) is not None
                    store(table, key, limiter.reset(since), since)
                    table.refusing.pop(key, None)
            yield
    return closed
