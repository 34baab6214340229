"""What a stretch of one shard's log comes to: the last word on everything it touches.

Rules
- Batches are added in the order they were written. Of a counter only the last state counts.
- Hits of a loop are added to its history by the limiter itself. Where the history is older than
  the stretch, they wait in `Later` for it.
- A snapshot counts only if its end is in the same segment as its beginning; then nothing that was
  written before its beginning counts any more (`complete`), in this stretch or before it.
- A rule that was forgotten has no counters but those that came later.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from protocol.operations import Key, Kind, RuleSpec
from shard.algorithms.limiter import Param
from shard.algorithms.registry import AnyLimiter, build
from shard.stores.batches import MARK_BEGIN, MARK_END, Batch, batch, fours, triples
from shard.stores.link_tails import LinkTail

State = tuple[int, ...]

_WIDTHS = {
    "token_bucket": 2,
    "sliding_window": 3,
    "cost_based": 3,
    "token_bucket_llm": 3,
    "breaker": 5,
}
"""How many integers a state has, by kind."""


@dataclass(frozen=True, slots=True)
class Later:
    """Hits of a history that is not known yet."""

    times: tuple[int, ...]


Written = tuple[int, "list[int] | Later | None"]
"""The last word on a counter: when (microseconds since the epoch), and its state or None.

A plain tuple: millions are made in a fold, and one with names costs 0.3 µs more.
"""


class Kept(NamedTuple):
    """A reservation on disk: entries are (identity, key, cost)."""

    charged_at: int
    entries: tuple[tuple[str, Key, Any], ...]


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule as it was when its counters were written."""

    kind: Kind
    params: dict[str, Param]

    def limiter(self, identity: str) -> AnyLimiter:
        """Return the limiter that understands the states.

        Raises:
            TypeError, KeyError: a parameter is absent or of the wrong type.
        """
        return build(RuleSpec(self.kind, identity, 0, shadow=False, params=self.params))


class Image:
    """The sum of some segments of one shard."""

    def __init__(self) -> None:
        self.rules: dict[str, StoredRule] = {}
        self.counters: dict[str, dict[Key, Written]] = {}
        self.forgotten: set[str] = set()
        self.complete = False
        self.newest = 0
        """The latest stamp, in microseconds since the epoch."""
        self.reservations: dict[bytes, Kept | None] = {}
        self.links: dict[bytes, LinkTail] = {}
        self._limiters: dict[str, AnyLimiter] = {}
        self._slots: dict[int, dict[Key, Written]] = {}
        """The counters of the slots of the segment that is being added."""

    @property
    def size(self) -> int:
        """How many counters and reservations it has a word on."""
        return sum(map(len, self.counters.values())) + len(self.reservations)

    def add(self, records: Iterable[list[object]]) -> None:
        """Add a segment's records, its header not included.

        Raises:
            ValueError: a record with a good checksum says what no version of this program says.
        """
        slots: dict[int, str] = {}
        fresh: Image | None = None
        self._slots = {}
        for record in records:
            try:
                each = batch(record)
                for slot, kind, identity, params in each.rules:
                    slots[slot] = identity
                    self._define(identity, StoredRule(kind, params))
                self.newest = max(self.newest, each.stamp)
                if each.mark == MARK_BEGIN:
                    fresh = Image()
                self._apply(each, slots)
                for link, applied, replied, replies in fours(each.links):
                    self.links.setdefault(link, LinkTail()).add(applied, replied, replies)
                if fresh is not None:
                    fresh.rules, fresh._limiters = self.rules, self._limiters
                    fresh._apply(each, slots)
                    if each.mark == MARK_END:
                        self._become(fresh)
                        fresh = None
            except (msgspec.ValidationError, LookupError, TypeError, ValueError) as error:
                raise ValueError(f"a record makes no sense: {error!r}") from error

    def state(self, identity: str, key: Key, before: State | None) -> State | None:
        """Return a counter's state after this stretch; `before` is what it was before it.

        Raises:
            TypeError: no limiter of the rule's kind has such a state.
        """
        written = self.counters.get(identity, {}).get(key)
        if written is None:
            return None if self.complete or identity in self.forgotten else before
        state = written[1]
        if isinstance(state, Later):
            return with_hits(self._limiters[identity], before, state.times)
        return None if state is None else checked(self.rules[identity].kind, state)

    def _become(self, fresh: "Image") -> None:
        self.counters, self.reservations = fresh.counters, fresh.reservations
        self.forgotten, self.complete = set(), True
        self._slots = {}

    def _define(self, identity: str, rule: StoredRule) -> None:
        if self.rules.get(identity) != rule:
            self.rules[identity] = rule
            self._limiters[identity] = rule.limiter(identity)
        self.counters.setdefault(identity, {})

    def _apply(self, each: Batch, slots: dict[int, str]) -> None:
        for slot in each.forgotten:
            identity = slots[slot]
            self.counters[identity] = {}
            self.forgotten.add(identity)
        if each.rules or each.forgotten or len(self._slots) != len(slots):
            counters = self.counters
            self._slots = {slot: counters.setdefault(name, {}) for slot, name in slots.items()}
        # Millions of these are read at a time: states are checked when they are used.
        known, stamp = self._slots, each.stamp
        for slot, key, value in triples(each.counters):
            if value and type(value[0]) is list:
                known[slot][key] = stamp, self._hit(slots[slot], key, tuple(value[0]))
            else:
                known[slot][key] = stamp, value
        for rid, *rest in each.reservations:
            if not rest:
                self.reservations[rid] = None
                continue
            charged_at, entries = rest
            held = tuple((slots[slot], key, cost) for slot, key, cost in triples(entries))
            self.reservations[rid] = Kept(charged_at, held)

    def _hit(self, identity: str, key: Key, times: tuple[int, ...]) -> "list[int] | Later | None":
        written = self.counters[identity].get(key)
        before = None if written is None else written[1]
        if isinstance(before, Later):
            return Later(before.times + times)
        if written is None and not self.complete and identity not in self.forgotten:
            return Later(times)
        known = None if before is None else checked("loop", before)
        after = with_hits(self._limiters[identity], known, times)
        return None if after is None else list(after)


def with_hits(limiter: AnyLimiter, before: State | None, times: Iterable[int]) -> State | None:
    """Return a loop's history with further hits."""
    state: Any = before
    for time in times:
        state, _ = limiter.charge(state, 0, time)
    return None if state is None else tuple(state)


def is_state(kind: Kind, value: object) -> bool:
    """Return whether a value may be a state of this kind, going by its width."""
    return isinstance(value, list) and len(value) == _WIDTHS.get(kind, len(value))


def checked(kind: Kind, value: object) -> State:
    """Return a state off the disk.

    Raises:
        TypeError: no limiter of this kind has such a state.
    """
    if not isinstance(value, list | tuple) or not all(type(part) is int for part in value):
        raise TypeError(f"not a state: {value!r}")
    if len(value) != _WIDTHS.get(kind, len(value)):
        raise TypeError(f"not a state of {kind}: {value!r}")
    return tuple(value)
