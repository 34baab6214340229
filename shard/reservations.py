"""Estimates that wait for the real figure (behaviour §7.5, §11.2).

A reservation belongs to the shard that charged it. It is settled at most once, and forgotten after
its time to live; forgotten or not, what it charged stays charged until it is settled.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_RESERVATIONS = 250_000
"""Outstanding reservations per shard, about 100 MB; the oldest is forgotten first."""
_DROPPED_AT_ONCE = 2
"""A limit that was lowered is come down to step by step."""


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """One reservation: what was charged, and when (microseconds)."""

    entries: tuple[T, ...]
    charged_at: int


class Reservations(Generic[T]):
    """Reservations by id, oldest first. `ttl` in microseconds.

    `forgotten` counts those that expired unsettled, `dropped` the oldest of too many.
    """

    __slots__ = ("_held", "_limit", "_ttl", "changed", "dropped", "forgotten")

    def __init__(self, ttl: int, limit: int = MAX_RESERVATIONS) -> None:
        self._held: dict[bytes, Held[T]] = {}
        self._ttl = ttl
        self._limit = limit
        self.forgotten = 0
        self.dropped = 0
        self.changed: set[bytes] | None = None
        """Ids of reservations that changed, for a store to keep; None without one."""

    @property
    def held(self) -> Mapping[bytes, Held[T]]:
        """The reservations by id."""
        return self._held

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, reservation: bytes, entries: tuple[T, ...], now: int) -> None:
        """Remember what a request charged under its id."""
        if len(self._held) >= self._limit:
            self._make_room()
        self._held[reservation] = Held(entries, now)
        self._note(reservation)

    def _make_room(self) -> None:
        for _ in range(min(_DROPPED_AT_ONCE, len(self._held) - self._limit + 1)):
            oldest = next(iter(self._held))
            del self._held[oldest]
            self._note(oldest)
            self.dropped += 1

    def _note(self, reservation: bytes) -> None:
        if self.changed is not None:
            self.changed.add(reservation)

    def put(self, reservation: bytes, held: Held[T]) -> None:
        """Take over a reservation of an earlier life; the oldest come first."""
        self._held[reservation] = held

    def take(self, reservation: bytes, now: int) -> Held[T] | None:
        """Return and forget a reservation; None if it is unknown, settled or expired."""
        held = self._held.pop(reservation, None)
        if held is None:
            return None
        self._note(reservation)
        if now - held.charged_at >= self._ttl:
            self.forgotten += 1
            return None
        return held

    def drop(self, reservation: bytes, unwanted: Callable[[T], bool]) -> bool:
        """Forget the entries whose charges are to be taken back; return whether any was held."""
        held = self._held.get(reservation)
        if held is None:
            return False
        entries = tuple(entry for entry in held.entries if not unwanted(entry))
        if entries:
            self._held[reservation] = Held(entries, held.charged_at)
        else:
            del self._held[reservation]
        self._note(reservation)
        return len(entries) < len(held.entries)

    def expire(self, now: int, budget: int) -> int:
        """Forget at most `budget` expired reservations; return how many."""
        expired = []
        for reservation, held in self._oldest(budget):
            if now - held.charged_at < self._ttl:
                break
            expired.append(reservation)
        for reservation in expired:
            del self._held[reservation]
        self.forgotten += len(expired)
        return len(expired)

    def _oldest(self, count: int) -> Iterator[tuple[bytes, Held[T]]]:
        for number, item in enumerate(self._held.items()):
            if number >= count:
                return
            yield item
