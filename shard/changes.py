"""What a batch of frames has changed, for a store to keep (behaviour §13.5).

Rules
- Counters are noted by (owner, key), once however often they change; what they have become is read
  at the end of the batch. A counter that is gone by then is noted as gone.
- A long loop history grows in place and would cost a kilobyte a request: of it only the number of
  new hits is noted. Anything else that happens to it is noted as a change.
- The owner's `slot` and identity are all that is asked of it; a dead owner's counters are passed
  over.
"""

from collections.abc import Hashable
from typing import Any, Protocol

from protocol.operations import Key, RuleSpec


class Owner(Protocol, Hashable):
    """The counters of one rule. `slot` numbers it within this process's life."""

    slot: int
    spec: RuleSpec
    states: dict[Key, Any]
    dead: bool


class Changes:
    """Notes of one batch; `clear` begins the next."""

    __slots__ = ("counters", "forgotten", "hits", "note", "reservations")

    def __init__(self) -> None:
        self.counters: set[tuple[Owner, Key]] = set()
        self.hits: dict[tuple[Owner, Key], int] = {}
        self.forgotten: list[Owner] = []
        self.reservations: set[bytes] = set()
        self.note = self.counters.add
        """Called with (owner, key); a bound method, looked up once."""

    def __bool__(self) -> bool:
        return bool(self.counters or self.hits or self.forgotten or self.reservations)

    def hit(self, owner: Owner, key: Key) -> None:
        """Note that a long history has one more hit."""
        self.hits[owner, key] = self.hits.get((owner, key), 0) + 1

    def clear(self) -> None:
        """Begin the next batch."""
        self.counters.clear()
        self.hits.clear()
        self.forgotten.clear()
        self.reservations.clear()
