"""The counters of a shard: a plain dict per rule, swept in small steps, bounded in memory (§13.2).

Rules
- Tables read and write the dicts (`shard.tables`); only the store removes keys.
- Tables of several generations share the states of equal identities, whatever became of the limits
  (§2.7): an identity names all that gives a state its meaning. Each table charges by its own
  parameters; what comes later (undo, settlement, sweep) goes by the newest.

Theory of operation. Python dicts can be neither walked in small steps while they change nor told
apart by age, so every counter also stands once in a *ring*: parallel arrays over all rules, in no
order, 40 bytes a counter. `add` appends; removing moves the last entry into the gap. A hand walks
the ring, a bounded number of entries per `sweep`, and drops what `idle_at` says is as good as gone
(and what belongs to rules of forgotten generations: no table is ever freed at once).

Recency is noticed by the hand: it keeps a hash of the state it saw, and a state that has changed
since, or was touched, counts as used now. When memory is short the hand goes faster; when it is
over the bound, the idle among the next 64 entries go first, and if there are none the quarter that
has been unused the longest (sampled LRU, as Redis does it:
https://redis.io/docs/latest/develop/reference/eviction/). The bound is kept whatever arrives,
since a sweep may evict more than was added since the last; in between it is exceeded by what is
added. Bytes are estimates, fitted to the resident size of a million counters.
"""

import sys
from array import array
from collections import deque
from collections.abc import MutableSequence, Sequence
from itertools import chain, count
from typing import Any

from protocol.operations import Key, RuleSpec
from shard.algorithms.breaker import BreakerLimiter
from shard.changes import Changes
from shard.stores.worth import is_stored
from shard.tables import Counters, CounterTable

_ENTRY_BYTES = 130
"""A dict slot, a ring entry, a tuple's head and the allocator's rounding (fitted)."""
_PART_BYTES = 40
"""One integer of a state with its slot."""
_DEQUE_BYTES = 700
_SAMPLE = 64
_EVICT_SHARE = 4
_VISITS_PER_NEW = 16


class CounterStore:
    """All counters of a shard within about `max_bytes`.

    `size` counts them, `bytes` estimates their memory; `expired` and `evicted` count what was
    dropped because it was idle, and because memory was short.
    """

    __slots__ = (
        "_added",
        "_counters",
        "_generations",
        "_hand",
        "_keys",
        "_marks",
        "_owners",
        "_slots",
        "_used",
        "_weights",
        "bytes",
        "changes",
        "evicted",
        "expired",
        "max_bytes",
    )

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.changes: Changes | None = None
        """Where changes are noted for a store; None without one."""
        self.bytes = 0
        self.evicted = 0
        self.expired = 0
        self._generations: dict[int, list[CounterTable]] = {}
        self._counters: dict[str, Counters] = {}
        self._keys: list[Key] = []
        self._owners: list[Counters] = []
        self._marks = array("q")
        self._used = array("q")
        self._weights = array("I")
        self._hand = 0
        self._added = 0
        self._slots = count()

    @property
    def size(self) -> int:
        """Return how many counters are held."""
        return len(self._keys)

    def install(
        self, generation: int, specs: Sequence[RuleSpec], keep: int | None = None
    ) -> list[CounterTable]:
        """Return the tables of a generation, one per rule in order, on the states they share.

        Generation `keep` stays, by default the newest; counters that neither of the two needs die,
        step by step.
        """
        newest = max(self._generations, default=generation)
        kept = newest if keep is None else keep
        tables = [
            CounterTable(self, self._shared(spec), number, spec)
            for number, spec in enumerate(specs)
        ]
        held = self._generations.get(kept)
        self._generations = (
            {generation: tables} if held is None else {kept: held, generation: tables}
        )
        needed = {id(table.states) for each in self._generations.values() for table in each}
        for identity, counters in list(self._counters.items()):
            if id(counters.states) not in needed:
                self._forget(counters)
                del self._counters[identity]
        return tables

    def keep(self, changes: Changes) -> None:
        """Note in `changes` what happens from now on."""
        self.changes = changes
        for tables in self._generations.values():
            for table in tables:
                table.keep(changes)

    def walk_back(self, at: int, number: int) -> int:
        """Note `number` counters below place `at` of the ring; return the place to go on from.

        A walk that starts from `size` and ends at 0 meets every counter that was there at its start
        and has not been removed: removing one moves another down from where the walk has been.
        """
        at = min(at, len(self._keys))
        last = max(0, at - number)
        if self.changes is not None:
            for owner, key in zip(self._owners[last:at], self._keys[last:at], strict=True):
                if is_stored(owner.spec):
                    self.changes.note((owner, key))
        return last

    def _forget(self, counters: Counters) -> None:
        """Let counters go; if they are stored, there too."""
        counters.dead = True
        if self.changes is not None and is_stored(counters.spec):
            self.changes.forgotten.append(counters)

    def _shared(self, spec: RuleSpec) -> Counters:
        counters = self._counters.get(spec.identity)
        if counters is not None and counters.spec.kind == spec.kind:
            if counters.spec.params != spec.params:
                self._adopt(counters, spec)
            return counters
        if counters is not None:
            counters.dead = True
        self._counters[spec.identity] = counters = Counters(spec, next(self._slots))
        if self.changes is not None and is_stored(spec):
            # What a rule of this name may have left on disk long ago was forgotten long ago.
            self.changes.forgotten.append(counters)
        return counters

    def _adopt(self, counters: Counters, spec: RuleSpec) -> None:
        was_stored = is_stored(counters.spec)
        counters.adopt(spec)
        if self.changes is not None and is_stored(spec) and not was_stored:
            self.changes.counters.update((counters, key) for key in counters.states)
            for table in chain.from_iterable(self._generations.values()):
                if table.counters is counters:
                    table.keep(self.changes)

    def enter(self, key: Key, counters: Counters, state: object, now: int) -> None:
        """Put a counter that is not in its dict yet on the ring (`CounterTable.add`)."""
        weight = _weigh(key, state)
        self.bytes += weight
        self._added += 1
        self._keys.append(key)
        self._owners.append(counters)
        self._marks.append(_mark(state))
        self._used.append(now)
        self._weights.append(weight)
        limiter = counters.limiter
        if isinstance(limiter, BreakerLimiter) and limiter.opened(state, now):  # type: ignore[arg-type]  # its own
            counters.refusing[key] = None

    def sweep(self, now: int, budget: int) -> int:
        """Drop what is idle, then what memory is too short for; return how many counters went.

        Looks at `budget` entries, at twice as many when memory is short, and over the bound also
        at up to 16 for each counter added since the last sweep.
        """
        before = len(self._keys)
        added, self._added = self._added, 0
        short = self.bytes > self.max_bytes - self.max_bytes // 8
        self._walk(now, budget * 2 if short else budget)
        visits = budget + _VISITS_PER_NEW * added
        while self.bytes > self.max_bytes and self._keys and visits > 0:
            self._evict(now)
            visits -= _SAMPLE
        return before - len(self._keys)

    def _walk(self, now: int, count: int) -> range:
        """Drop what is idle among the next `count` entries; return where the others stand.

        The stretch never wraps: near the end of the ring it starts earlier.
        """
        # 1.2 us an entry of a million, most of it waiting for memory; so all in one loop
        keys, owners, marks, used = self._keys, self._owners, self._marks, self._used
        count = min(count, len(keys))
        first = at = min(self._hand, len(keys) - count)
        for _ in range(count):
            counters, key = owners[at], keys[at]
            state = counters.states.get(key)
            idle_at = 0 if state is None or counters.dead else counters.idle_at(state)
            if idle_at is not None and idle_at <= now:
                self._remove(at)
                self.expired += 1
                continue
            mark = _mark(state)
            if mark != marks[at]:
                marks[at] = mark
                used[at] = now
                self._reweigh(at, _weigh(key, state))
            if counters.touched and key in counters.touched:
                counters.touched.discard(key)
                used[at] = now
            at += 1
        self._hand = at if at < len(keys) else 0
        return range(first, at)

    def _evict(self, now: int) -> None:
        """Drop the idle among the next entries or, if there are none, the longest unused."""
        expired = self.expired
        sample = self._walk(now, _SAMPLE)
        if self.expired != expired:
            return
        oldest = sorted(sample, key=self._used.__getitem__)[: max(1, len(sample) // _EVICT_SHARE)]
        over = self.bytes - self.max_bytes
        chosen = []
        for at in oldest:
            if over <= 0:
                break
            over -= self._weights[at]
            chosen.append(at)
        # from the back: removing moves the last entry, which then is none of those to come
        for at in sorted(chosen, reverse=True):
            if self.changes is not None:
                self.changes.note((self._owners[at], self._keys[at]))
            self._remove(at)
        self.evicted += len(chosen)

    def _reweigh(self, at: int, weight: int) -> None:
        self.bytes += weight - self._weights[at]
        self._weights[at] = weight

    def _remove(self, at: int) -> None:
        counters, key = self._owners[at], self._keys[at]
        del counters.states[key]
        counters.touched.discard(key)
        counters.refusing.pop(key, None)
        self.bytes -= self._weights[at]
        columns: tuple[MutableSequence[Any], ...] = (
            self._keys,
            self._owners,
            self._marks,
            self._used,
            self._weights,
        )
        for column in columns:
            column[at] = column[-1]
            column.pop()


def _mark(state: Any) -> int:  # noqa: ANN401 - only its limiter can read a state
    if isinstance(state, deque):
        return hash((len(state), state[-1])) if state else 0
    return hash(state)


def _weigh(key: Key, state: Any) -> int:  # noqa: ANN401 - only its limiter can read a state
    weight = _ENTRY_BYTES + sys.getsizeof(key) + _PART_BYTES * len(state)
    return weight + _DEQUE_BYTES if isinstance(state, deque) else weight
