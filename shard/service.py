"""What a shard answers: decoded frames in, reply frames out. No sockets, no clock.

Time comes with every frame, stamped by the front that sent it. Fronts are a few microseconds to
milliseconds apart, so a stamp that lies a little behind the newest one is lifted to it: refilling
the same interval twice would admit too much. A stamp that lies far behind means that the host's
clock was set back; it is followed.

A shard that starts with nothing (a lost process without a store) is not told of that by the fronts:
what they ask it to undo may have been charged to its predecessor. Such undos are passed over, or
they would give back what was never taken. So are those of a generation that is forgotten.
"""

from collections.abc import Collection, Generator
from functools import partial
from itertools import chain

from protocol.frames import DECIDE, SETTLE, UNDO, FrameError
from protocol.operations import Key, RuleSpec, Wire
from protocol.usage import Usage
from shard import breakers
from shard.changes import Changes
from shard.counters import CounterStore
from shard.reservations import MAX_RESERVATIONS, Reservations
from shard.tables import CounterTable
from shard.transaction import Entry, Transactions, charges

MAX_SKEW = 2_000_000
"""Microseconds that stamps of two fronts may differ without meaning a clock that was set."""

_MALFORMED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What a frame of the wrong shape runs into; checking every operation would cost a tenth."""
_CHARGED_AT = 3


class ShardService:
    """One shard's counters and reservations, and the frames that move them.

    `recovered` says that the counters are those of an earlier life, restored from a store.
    """

    __slots__ = ("_born", "_generations", "_latest", "_transactions", "reservations", "store")

    def __init__(
        self,
        max_bytes: int,
        reservation_ttl: int,
        max_reservations: int = MAX_RESERVATIONS,
        *,
        recovered: bool = False,
    ) -> None:
        self._born = 0 if recovered else -1
        self.store = CounterStore(max_bytes)
        self.reservations: Reservations[Entry] = Reservations(reservation_ttl, max_reservations)
        self._transactions = Transactions(self.reservations)
        self._generations: dict[int, list[CounterTable]] = {}
        self._latest = 0

    def install(self, generation: int, specs: list[RuleSpec], keep: int | None = None) -> None:
        """Take a rule table; generation `keep`, by default the newest, stays usable beside it."""
        kept = max(self._generations, default=generation) if keep is None else keep
        tables = self.store.install(generation, specs, kept)
        held = self._generations.get(kept)
        self._generations = {} if held is None else {kept: held}
        self._generations[generation] = tables

    def keep(self, changes: Changes) -> None:
        """Note in `changes` what happens from now on, for a store to keep."""
        self.store.keep(changes)
        self.reservations.changed = changes.reservations

    @property
    def tables(self) -> list[CounterTable]:
        """The tables of the newest generation."""
        return self._generations[max(self._generations)]

    @property
    def now(self) -> int:
        """The newest stamp that was accepted, in microseconds since the epoch; 0 before any."""
        return self._latest

    def answer(self, message: list[object]) -> list[object] | None:
        """Apply one frame; return its reply, None where it has none.

        Raises:
            FrameError: the frame is not one of `protocol.frames`, or its generation is unknown.
        """
        try:
            return self._answer(message)
        except FrameError:
            raise
        except _MALFORMED as error:
            # Without its text: it may quote a limit key, which may be a credential.
            raise FrameError(f"malformed frame: {type(error).__name__}") from error

    def _answer(self, message: list[object]) -> list[object] | None:
        match message:
            case [kind, int(generation), int(stamp), list(items)] if kind == DECIDE:
                tables = self._tables(generation)
                now = self._now(stamp)
                decide = self._transactions.decide
                return [now, [decide(tables, item, now) for item in items]]
            case [kind, int(generation), int(stamp), list(undos)] if kind == UNDO:
                now = self._now(stamp)
                tables_then = self._generations.get(generation)
                if tables_then is not None:
                    own = [undo for undo in undos if undo[_CHARGED_AT] >= self._born]
                    self._transactions.undo(tables_then, own, now)
                return None
            case [kind, int(stamp), list(settlements)] if kind == SETTLE:
                now = self._now(stamp)
                settle = self._transactions.settle
                return [now, [settle(rid, _usage(usage), now) for rid, usage in settlements]]
        raise FrameError("not a frame for a shard")

    def take_back(self, generation: int, item: list[Wire], reply: Wire, charged_at: int) -> None:
        """Undo what is left of one request's charges: its front died and never answered it."""
        tables = self._generations.get(generation)
        if tables is not None:
            undos = charges(tables, item, reply, charged_at)
            self._transactions.undo(tables, undos, self._latest)

    def tidy(self, now: int, budget: int) -> None:
        """Drop a bounded number of counters and reservations whose time is over."""
        self.store.sweep(now, budget)
        self.reservations.expire(now, budget)

    def figures(self, now: int) -> dict[str, object]:
        """Return the shard's gauges for the metrics, and the identities of open breakers."""
        return {
            "counters": self.store.size,
            "evicted": self.store.evicted,
            "reservations": len(self.reservations),
            "expired": self.reservations.forgotten,
            "dropped": self.reservations.dropped,
            "breakers": breakers.any_open(self._breakers(), now),
        }

    def open_breakers(self, now: int) -> tuple[list[breakers.Open], bool]:
        """Return the breakers that are open at `now`, and whether there may be more."""
        return breakers.listed(self._breakers(), now)

    def reset_breakers(
        self,
        identities: Collection[str],
        keys: Collection[Key] | None,
        now: int,
        *,
        in_flight: bool = True,
    ) -> Generator[None, None, int]:
        """Reset breakers by hand, of some keys or (None) all, step by step; return how many.

        Only those that are open at `now` are counted. With nothing in flight, as in simulated time,
        a reset is plain forgetting, and the shard's time need not move.
        """
        moment = partial(self._between, now) if in_flight else int
        return breakers.reset(self._breakers(), identities, keys, now, moment)

    def _between(self, now: int) -> int:
        """Return a time after every stamp so far; a later one is lifted to it (see `_now`).

        Before any stamp it is the time of day: counters may have been restored.
        """
        if not self._latest:
            self._now(now)
        self._latest += 1
        return self._latest

    def _breakers(self) -> breakers.Breakers:
        return breakers.breakers(chain.from_iterable(self._generations.values()))

    def _tables(self, generation: int) -> list[CounterTable]:
        tables = self._generations.get(generation)
        if tables is None:
            raise FrameError(f"unknown generation {generation}")
        return tables

    def _now(self, stamp: int) -> int:
        behind = self._latest - stamp
        if behind <= 0 or behind > MAX_SKEW:
            if self._born < 0 or stamp < self._born:
                self._born = stamp
            self._latest = stamp
            return stamp
        return self._latest


def _usage(wire: list[int | None] | None) -> Usage | None:
    return None if wire is None else Usage.from_wire(wire)
