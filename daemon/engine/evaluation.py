"""One request's operations on their way out, its replies on their way back (§5.1, §5.2).

Theory
- The reference is sequential: policies in id order, each loop → breaker → rules; the first refusal
  of an enforcing policy ends everything, the first of a shadow policy ends that policy.
- All operations go out at once, to every shard that owns a counter of theirs. Each shard applies
  its part in that order and takes its own part back when one refuses. Every operation touches
  a counter of its own, so the only way one depends on another is whether it is reached at all.
- The front then looks at all verdicts in order, as the sequential machine would, and takes back
  what a shard could not know: a charge on one shard when another refused, and everything that an
  operation did which would never have been reached (it is sent back with its verdict).
- An owner that does not answer in time has no verdict. The fold over the verdicts says what that
  means (`on_error`), and notes where shadow policies stop. A late reply changes no decision; what
  its shard charged is taken back as the decision demands.
- `refuse` operations mark a refusal that is known beforehand, so shards take back by themselves.
"""

from collections.abc import Mapping, Sequence

from daemon.engine.checks import Check
from daemon.engine.context import Context
from protocol.operations import Key, Verdict
from protocol.placement import placement

Replies = Mapping[int, Sequence[Verdict | None]]
Undo = list[object]


class Evaluation:
    """The operations of one request. `parts[shard]` is the wire item for that shard."""

    __slots__ = (
        "charged_at",
        "checks",
        "context",
        "costs",
        "keys",
        "matched",
        "missing",
        "parts",
        "places",
        "refusals",
        "replies",
        "reservation",
        "shards",
        "stops",
        "waiting",
    )

    def __init__(self, context: Context, shards: int) -> None:
        self.context = context
        self.shards = shards
        self.matched: tuple[str, ...] = ()
        self.checks: list[Check] = []
        self.places: list[tuple[int, int]] = []
        self.keys: list[Key] = []
        self.costs: list[object] = []
        self.parts: dict[int, list[object]] = {}
        self.refusals: dict[int, str] = {}
        self.missing: list[tuple[Check, str]] = []
        self.reservation: bytes = b""
        self.replies: dict[int, Sequence[Verdict | None]] = {}
        self.charged_at: dict[int, int] = {}
        self.stops: dict[int, int] = {}
        self.waiting = 0

    def add(self, check: Check, key: Key, cost: object, placed: Key | None = None) -> None:
        """Append an operation; `placed` puts it beside another counter's key."""
        shard = 0
        if self.shards > 1:
            shard = placement(key if placed is None else placed) % self.shards
        part = self.parts.get(shard)
        if part is None:
            part = self.parts[shard] = []
        self.checks.append(check)
        self.places.append((shard, len(part) // 3))
        self.keys.append(key)
        self.costs.append(cost)
        part += (check.number, key, cost)

    def refuse(self, check: Check, reason: str) -> None:
        """Mark that the request fails at this check for a reason known without any counter."""
        self.refusals[len(self.checks)] = reason
        self.checks.append(check)
        self.places.append((-1, 0))
        self.keys.append("")
        self.costs.append(0)
        for part in self.parts.values():
            part.extend((check.refuse, "", 0))

    def reserve(self, reservation: bytes) -> None:
        """Let the shards remember this request's estimates under an id, for settlement."""
        self.reservation = reservation
        for part in self.parts.values():
            part.insert(0, reservation)

    def reply(self, shard: int, charged_at: int, reply: object) -> None:
        """Take a shard's answer: one bare verdict for one operation, else a list of them."""
        part = self.parts[shard]
        single = len(part) <= 4  # noqa: PLR2004 - three for the operation, one for the id
        self.replies[shard] = [reply] if single else reply  # type: ignore[list-item,assignment]
        self.charged_at[shard] = charged_at

    def verdict(self, index: int) -> Verdict | None:
        """Return operation `index`'s verdict; None if its owner did not answer."""
        shard, place = self.places[index]
        if shard < 0:
            return -1
        verdicts = self.replies.get(shard)
        return None if verdicts is None else verdicts[place]

    def forget_request(self) -> None:
        """Let go of what the operations were made from; a late reply needs only the operations."""
        del self.context

    @property
    def unheard(self) -> bool:
        """Whether a shard has not answered."""
        return len(self.replies) < len(self.parts)

    def reserved_places(self, *, silent: bool = False) -> list[int]:
        """Return the placement hashes of an admitted request's reserving counters.

        With `silent`, also of those whose owner has not answered: one that is late will have
        charged and hold its part.
        """
        stops = self.stops
        places: dict[int, None] = {}
        for index, check in enumerate(self.checks):
            verdict = self.verdict(index)
            if check.segment in stops or not (granted(verdict) or (silent and verdict is None)):
                continue
            if not self._reserves(index):
                continue
            places[placement(self.keys[index])] = None
        return list(places)

    def undos(self, refused_at: int | None) -> dict[int, list[Undo]]:
        """Return what must be taken back per shard, once the refusing operation is known.

        `refused_at` is the index of the enforcing refusal, None if the request is admitted; `stops`
        holds the index at which each refusing shadow segment stopped. Both are what the decision
        said, also when a reply comes too late to have been part of it.
        """
        if self._left_clean(refused_at):
            return {}
        undos: dict[int, list[Undo]] = {}
        stops = self.stops
        rolled = {shard: self._rolled_back(shard) for shard in self.replies}
        for index, check in enumerate(self.checks):
            shard, place = self.places[index]
            verdicts = self.replies.get(shard)
            verdict = None if verdicts is None else verdicts[place]
            if verdict is None:
                continue
            everything, segments = rolled[shard]
            put_back = everything or check.segment in segments
            charged = granted(verdict) and not put_back
            stop = stops.get(check.segment)
            if (refused_at is None or index <= refused_at) and (stop is None or index <= stop):
                refused = refused_at is not None or stop is not None
                if not refused or not charged or check.kind == "loop":
                    continue
                how = None
            elif charged or check.kind == "loop" or not granted(verdict):
                how = verdict
            else:
                continue
            undo = [check.number, self.keys[index], _amount(self.costs[index])]
            undo += [self.charged_at[shard], how]
            undo.append(self.reservation if self._reserves(index) else b"")
            undos.setdefault(shard, []).append(undo)
        return undos

    def _reserves(self, index: int) -> bool:
        """Return whether an operation's shard holds it under the reservation once it is granted."""
        check = self.checks[index]
        # the price of an unknown model is not reconciled
        return check.reserves and not (check.dollars and isinstance(self.costs[index], int))

    def _left_clean(self, refused_at: int | None) -> bool:
        """Return whether no shard holds anything that must go: the two common cases, told fast."""
        if self.stops:
            return False
        if refused_at is None:
            return True
        # The only shard there is refused by itself. One that was refused without, being late, did
        # not: it grants what the decision has refused.
        return len(self.parts) <= 1 and not granted(self.verdict(refused_at))

    def _rolled_back(self, shard: int) -> tuple[bool, set[int]]:
        """Return what a shard took back by itself: everything, and which shadow segments."""
        segments: set[int] = set()
        refusing = self.refusals
        for index, check in enumerate(self.checks):
            owner, place = self.places[index]
            if owner == shard:
                verdict = self.replies[shard][place]
                refused = verdict is not None and not granted(verdict)
            else:
                refused = index in refusing and self._told(shard, index)
            if refused:
                if not check.shadow:
                    return True, segments
                segments.add(check.segment)
        return False, segments

    def _told(self, shard: int, index: int) -> bool:
        """Return whether a refuse marker at `index` also went to this shard."""
        return any(owner == shard for owner, _ in self.places[:index])


def granted(verdict: Verdict | None) -> bool:
    """Return whether a verdict grants: its head is zero or more."""
    if isinstance(verdict, int):
        return verdict >= 0
    return verdict is not None and verdict[0] is not None and verdict[0] >= 0


def _amount(cost: object) -> object:
    return cost[0] if isinstance(cost, list) else cost
