"""One numbered rule of one generation, and the counters behind it.

Rules
- A counter table reads and writes its dict directly: `states.get(key)`; `states[key] = new` where
  the state read was not None, `add(key, new, now)` where it was. Putting a new counter back is
  `states[key] = None`: None is a value, it means fresh. Only the store removes keys.
- An operation that left a state as it was (a refusal) calls `touch(key)`, so that a counter that
  keeps refusing does not pass for unused; not where the state was None. Nothing else is done for
  recency on the hot path.
- A table with a `note` is stored: whoever changes a state calls `note((table.counters, key))`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from protocol.operations import Key, Kind, RuleSpec
from shard.algorithms.registry import AnyLimiter, build
from shard.changes import Changes, Owner
from shard.stores.worth import is_stored


class Counters:
    """The states of one rule, shared by its tables of all generations; `limiter` is the newest.

    `refusing` holds the keys of breakers that have refused: all that are open, and some that are
    not any more.
    """

    __slots__ = ("dead", "idle_at", "limiter", "refusing", "slot", "spec", "states", "touched")

    def __init__(self, spec: RuleSpec, slot: int) -> None:
        self.adopt(spec)
        self.slot = slot
        self.states: dict[Key, Any] = {}
        self.touched: set[Key] = set()
        self.refusing: dict[Key, None] = {}
        self.dead = False

    def adopt(self, spec: RuleSpec) -> None:
        """Go on with the parameters of a newer generation."""
        self.limiter: AnyLimiter = build(spec)
        self.spec = spec
        self.idle_at = self.limiter.idle_at


class Ring(Protocol):
    """Who owns the counters: told of every new one, and says where changes are noted."""

    changes: Changes | None

    def enter(self, key: Key, counters: Counters, state: object, now: int) -> None:
        """Take a counter that is not in its dict yet."""
        ...


class CounterTable:
    """One numbered rule of one generation and its counters.

    `charge` and `touch` are bound methods, looked up once and not per operation. `settle` says
    what a reservation is reconciled to: "llm", "usd", "tokens" or "" for nothing.
    """

    __slots__ = (
        "_store",
        "charge",
        "counters",
        "identity",
        "kind",
        "note",
        "number",
        "refusing",
        "segment",
        "settle",
        "shadow",
        "states",
        "touch",
    )

    def __init__(self, store: "Ring", counters: Counters, number: int, spec: RuleSpec) -> None:
        self._store = store
        self.counters = counters
        self.number = number
        self.kind: Kind = spec.kind
        self.identity = spec.identity
        self.segment = spec.segment
        self.shadow = spec.shadow
        self.settle = "llm" if spec.kind == "token_bucket_llm" else spec.params.get("settle") or ""
        self.charge = counters.limiter.charge
        self.states = counters.states
        self.touch = counters.touched.add
        self.refusing = counters.refusing
        self.note: Callable[[tuple[Owner, Key]], None] | None = None
        self.keep(store.changes)

    def keep(self, changes: Changes | None) -> None:
        """Note changes from now on, if there is a store and this rule's counters are worth it."""
        if changes is None or not is_stored(self.counters.spec):
            return
        self.note = changes.note
        if self.kind == "loop":
            # A long history changes in place: to be touched is to have one more hit.
            self.touch = partial(_hit, self.counters, changes)

    @property
    def limiter(self) -> AnyLimiter:
        """The rule's newest limiter: older tables outlive their parameters in reservations."""
        return self.counters.limiter

    def add(self, key: Key, state: object, now: int) -> None:
        """Store the state of a counter that was None when it was read."""
        if key not in self.states:
            self._store.enter(key, self.counters, state, now)
        self.states[key] = state


def _hit(counters: Counters, changes: Changes, key: Key) -> None:
    counters.touched.add(key)
    changes.hit(counters, key)
