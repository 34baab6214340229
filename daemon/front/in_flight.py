"""What a front has sent to a shard and not seen the end of. No sockets, no clock.

Theory
- Frames are counted, the same on both sides: a shard that stores its counters stores with them how
  many frames of each link it has applied, and what it replied. So a frame is applied once or not at
  all, and after a shard's death both sides can agree on which.
- When the link breaks, whoever waits is told to go on without the shard; the frames stay here. When
  it is back, the shard says how many it had applied. Of those, replies that never arrived come
  now, late: what they charged can be taken back. The others never happened: undos among them are
  sent again.
- A shard that knows nothing of the link (it keeps its counters in memory, or lost its log) says
  so. Then nobody knows, nothing is repeated, and `losses` counts it.
"""

from collections import Counter, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Owner = TypeVar("Owner")
Undos = dict[int, list[list[object]]]
_NO_UNDOS: list[list[object]] = []


class Frame(Generic[Owner]):
    """One frame. `owners` wait for its reply; an undo has none, and is kept to be sent again."""

    __slots__ = ("expired", "generation", "number", "owners", "sent", "settles", "undos")

    def __init__(  # noqa: PLR0913 - one value per part of a frame
        self,
        number: int,
        owners: list[Owner],
        sent: float,
        *,
        settles: bool = False,
        generation: int = 0,
        undos: list[list[object]] = _NO_UNDOS,
    ) -> None:
        self.number = number
        self.owners = owners
        self.sent = sent
        self.expired = False
        self.settles = settles
        self.generation = generation
        self.undos = undos


class InFlight(Generic[Owner]):
    """The frames of one link, the oldest first. `waiting` counts owners."""

    __slots__ = ("_frames", "losses", "received", "sent", "waiting")

    def __init__(self) -> None:
        self._frames: deque[Frame[Owner]] = deque()
        self.waiting = 0
        self.sent = 0
        self.received = 0
        self.losses: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Frame[Owner]]:
        """Return the questions that have no reply yet."""
        return (frame for frame in tuple(self._frames) if frame.owners)

    def __bool__(self) -> bool:
        return self.waiting > 0

    def ask(self, owners: list[Owner], now: float, *, settles: bool = False) -> None:
        """Note a frame that will be replied to, with who waits for that."""
        self.sent += 1
        self.waiting += len(owners)
        self._frames.append(Frame(self.sent, owners, now, settles=settles))

    def undo(self, generation: int, undos: list[list[object]], now: float, old: float) -> None:
        """Note undos. Undone is not answered: those sent before `old` have been done by now."""
        self._forget_undos(old)
        self.sent += 1
        self._frames.append(Frame(self.sent, [], now, generation=generation, undos=undos))

    def next(self) -> Frame[Owner] | None:
        """Return the frame that the next reply is for."""
        return next((frame for frame in self._frames if frame.owners), None)

    def replied(self) -> None:
        """Forget the frame that a reply has come for, and the undos before it."""
        while self._frames:
            frame = self._frames.popleft()
            if frame.owners:
                self.received += 1
                self.waiting -= len(frame.owners)
                return

    def broke(self, old: float) -> list[Owner]:
        """Return who has to go on without the shard; the frames stay."""
        self._forget_undos(old)
        orphans = []
        for frame in self._frames:
            if not frame.expired:
                frame.expired = True
                orphans += frame.owners
        return orphans

    def resume(self, applied: int, first: int) -> Undos:
        """Agree with a shard that has applied so many frames; return what to undo again.

        `first` is the number of the first reply that it will repeat. A negative `applied` says that
        the shard does not know.
        """
        frames, self._frames = self._frames, deque()
        again: Undos = {}
        replies = self.received
        for frame in frames:
            if applied < 0:
                self._lose(frame)
            elif frame.number > applied:
                if frame.undos:
                    again.setdefault(frame.generation, []).extend(frame.undos)
            elif frame.owners:
                if replies < first:
                    self._lose(frame)
                else:
                    self._frames.append(frame)
                replies += 1
        self.sent = max(applied, 0)
        self.received = max(self.received, first) if applied >= 0 else 0
        self.waiting = sum(len(frame.owners) for frame in self._frames)
        return again

    def _lose(self, frame: Frame[Owner]) -> None:
        self.losses["undo"] += len(frame.undos)
        if not frame.settles:
            self.losses["decision"] += len(frame.owners)

    def _forget_undos(self, old: float) -> None:
        frames = self._frames
        while frames and frames[0].undos and frames[0].sent < old:
            frames.popleft()
