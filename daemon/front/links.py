"""A front's link to one shard: operations out in batches, replies back in order.

Rules
- What one loop turn produces leaves in one write: the first operation of a turn schedules the
  flush, which the loop runs when it has worked off this turn's sockets.
- Replies come in the order of the frames, so each frame's owners wait in a queue; no ids.
- An owner that does not answer within the owner timeout, and every owner when the link drops, is
  told so at once (`unavailable`). A late reply is still taken off the queue, and handed over as
  late, because its charges may have to be taken back.
- A link that is down reconnects with back-off, which ends with the first reply that makes sense;
  meanwhile only undos wait for it. What it had under way when it broke is settled with the shard
  before anything else is asked (`in_flight`).
- What waits for a shard is bounded in number, and in bytes that the shard has not read. Beyond that
  the shard counts as unavailable at once: nobody waits for his turn to wait.
- Requests are numbered, so that answers can be noted where the shard finds them if this process is
  killed (`protocol.answered`).
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from secrets import token_bytes
from typing import Any

from daemon.front.answered import AnsweredPage, Lifeline
from daemon.front.in_flight import InFlight
from daemon.front.link_socket import LinkSocket, Owner
from daemon.front.trace import place
from protocol.frames import DECIDE, HELLO, SETTLE, UNDO, FrameError, pack

log = logging.getLogger("fairvisor")

_QUIET_SECONDS = 60.0
"""Between two lines about a shard's replies."""
_READ_SECONDS = 5.0
_MAX_BACKOFF = 0.5
_FIRST_BACKOFF = 0.01


class Link:
    """One shard as seen from a front. `clock` gives the time in microseconds since the epoch.

    At most `queue` owners wait, and beyond `buffer` bytes that the shard has not read nobody is
    added. `failures` counts by why an owner had to go on without the shard.
    """

    def __init__(  # noqa: PLR0913 - whom to ask, and how long, how many and how much at most
        self,
        shard: int,
        path: str,
        timeout: float,
        clock: Callable[[], int],
        lifeline: Lifeline | None = None,
        *,
        queue: int = 16_384,
        buffer: int = 16 << 20,
    ) -> None:
        self.shard = shard
        self._page = AnsweredPage()
        self.answered = self._page.slots
        """Where whoever answers a request notes its number, by number modulo the slots."""
        self._numbered = 0
        self._lifeline = lifeline
        self.failures: Counter[str] = Counter()
        self._queue = queue
        self._buffer = buffer
        self._full = False
        self._quiet_until = 0.0
        self._path = path
        self._timeout = timeout
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._opened = asyncio.Event()
        self._identity = token_bytes(16)
        self._flight: InFlight[Owner] = InFlight()
        self._greeting: asyncio.Transport | None = None
        self._generation = -1
        self._items: list[list[object]] = []
        self._owners: list[Owner] = []
        self._undos: dict[int, list[list[object]]] = {}
        self._settlements: list[list[object]] = []
        self._settlers: list[Owner] = []
        self._out: list[bytes] = []
        self._flushing = False
        self._watching = False
        self._backoff = 0.0
        self._stopped = False
        self._held = False
        self._connecting: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """Whether the shard can be asked now."""
        return self._transport is not None

    @property
    def losses(self) -> Counter[str]:
        """What was under way on broken links, and nobody knows whether it was done."""
        return self._flight.losses

    @property
    def quiet(self) -> bool:
        """Whether nothing is asked or about to be."""
        return not (self._flight or self._owners or self._settlers or self._undos)

    def hold(self, seconds: float) -> None:
        """Keep what is asked until the shard's next life, but no longer than `seconds`."""
        self._held = True
        self._loop.call_later(seconds, self._let_go)

    def _let_go(self) -> None:
        if self._held:
            self._held = False
            if self._transport is None:
                self.dropped()
            else:
                self._schedule()

    def start(self) -> None:
        """Begin to connect, and keep connecting until `stop`."""
        if not self._stopped and self._connecting is None:
            self._connecting = self._loop.create_task(self._connect())

    async def connected(self) -> None:
        """Wait until the shard can be asked."""
        await self._opened.wait()

    def stop(self) -> None:
        """Close the link for good."""
        self._stopped = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._transport is not None:
            self._flush()
        if self._greeting is not None:
            self._greeting.close()

    def decide(self, generation: int, item: list[object], owner: Owner) -> int:
        """Ask the shard to apply one request's operations; return the request's number.

        That is 0 if it cannot be asked.
        """
        if self._away or self._full or self._flight.waiting + len(self._owners) >= self._queue:
            self._turn_away(owner)
            return 0
        if generation != self._generation:
            self._seal()
            self._generation = generation
        self._items.append(item)
        self._owners.append(owner)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        self._numbered = number = self._numbered + 1
        return number

    def undo(self, generation: int, undos: list[list[object]]) -> None:
        """Take operations back; nothing is answered.

        While the link is down they wait for it: the shard may still hold what it charged. A shard
        that was restarted meanwhile knows that it did not.
        """
        waiting = self._undos.setdefault(generation, [])
        if self._transport is None and len(waiting) >= self._queue:
            self.losses["undo"] += len(undos)
            return
        waiting.extend(undos)
        if self._transport is not None:
            self._schedule()

    def settle(self, reservation: bytes, usage: object, owner: Owner) -> None:
        """Ask the shard to settle what it holds of a reservation."""
        if self._away or self._full or self._flight.waiting + len(self._settlers) >= self._queue:
            self._turn_away(owner)
            return
        self._settlements.append([reservation, usage])
        self._settlers.append(owner)
        self._schedule()

    def _turn_away(self, owner: Owner) -> None:
        self.failures["down" if self._transport is None else "queue"] += 1
        owner.unavailable(self.shard)

    @property
    def _away(self) -> bool:
        return self._transport is None and not self._held

    def _schedule(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _seal(self) -> None:
        """Turn what has been collected into frames, undos first: they free what others need."""
        now, sent = self._clock(), self._loop.time()
        if self._undos:
            for generation, undos in self._undos.items():
                self._out.append(pack([UNDO, generation, now, undos]))
                self._flight.undo(generation, undos, sent, sent - self._patience)
            self._undos = {}
        if self._items:
            self._out.append(pack([DECIDE, self._generation, now, self._items]))
            self._flight.ask(self._owners, sent)
            self._items = []
            self._owners = []
        if self._settlements:
            self._out.append(pack([SETTLE, now, self._settlements]))
            self._flight.ask(self._settlers, sent, settles=True)
            self._settlements = []
            self._settlers = []

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is None or self._held:
            return
        self._seal()
        if self._out:
            self._transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
            self._out.clear()
        if self._flight and not self._watching:
            self._watching = True
            self._loop.call_later(self._timeout, self._watch)

    def _watch(self) -> None:
        """Give up on frames older than the timeout; look again when the next one falls due."""
        self._watching = False
        now = self._loop.time()
        wait = self._timeout
        for frame in self._flight:
            left = frame.sent + self._timeout - now
            if left > 0:
                wait = left
                break
            if not frame.expired:
                frame.expired = True
                self.failures["timeout"] += len(frame.owners)
                for owner in frame.owners:
                    owner.unavailable(self.shard)
        if self._flight and self._transport is not None:
            self._watching = True
            self._loop.call_later(max(wait, 0.001), self._watch)

    def received(self, message: list[Any]) -> None:
        """Hand one reply frame to the owners of the oldest frame in flight.

        Raises:
            FrameError: the shard sent what nobody asked for.
        """
        if self._transport is None:
            self._welcome(message)
            return
        frame = self._flight.next()
        match message:
            case [int(now), list(replies)] if frame is not None:
                pass
            case _:
                raise FrameError("a reply that nobody asked for")
        if len(replies) != len(frame.owners):
            raise FrameError(f"{len(replies)} replies to {len(frame.owners)} questions")
        self._flight.replied()
        self._backoff = 0.0
        shard = self.shard
        late = frame.expired
        for owner, reply in zip(frame.owners, replies, strict=False):
            try:
                if late:
                    owner.late(shard, now, reply)
                else:
                    owner.reply(shard, now, reply)
            except Exception as error:  # noqa: BLE001 - one reply must not take the others with it
                self.complain(f"{type(error).__name__} at {place(error)}")

    def complain(self, why: str) -> None:
        """Log what is wrong with the shard's replies, once a minute at most."""
        now = self._loop.time()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET_SECONDS
            log.error("shard %d answers what cannot be read: %s", self.shard, why)

    async def _connect(self) -> None:
        while not self._stopped:
            await asyncio.sleep(self._backoff)
            self._backoff = min(max(self._backoff * 2, _FIRST_BACKOFF), _MAX_BACKOFF)
            with suppress(OSError):
                await self._loop.create_unix_connection(
                    lambda: LinkSocket(self), sock=self._greeted()
                )
                if self._greeting is not None:
                    break
        self._connecting = None

    def _greeted(self) -> socket.socket:
        """Return a connection on which the shard is asked what it knows of this link.

        Raises:
            OSError: there is none to be had.
        """
        asked = self._numbered - len(self._items)
        hello = pack([HELLO, self._identity, self._flight.received, asked])
        lifeline = -1 if self._lifeline is None else self._lifeline.fd
        handed = [self._page.fd, lifeline]
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(0)
            sock.connect(self._path)
            if -1 in handed:
                sock.sendall(hello)
            else:
                socket.send_fds(sock, [hello], handed)
        except OSError:
            sock.close()
            raise
        return sock

    def opened(self, transport: asyncio.Transport) -> None:
        """Take the connection to the shard."""
        if self._stopped:
            transport.close()
            return
        self._greeting = transport
        transport.set_write_buffer_limits(high=self._buffer)

    def _welcome(self, message: list[Any]) -> None:
        """Go on where the shard is; the link is up from now on."""
        match message:
            case [kind, int(applied), int(first)] if kind == HELLO:
                again = self._flight.resume(applied, first)
            case _:
                raise FrameError("no answer to a greeting")
        for generation, undos in again.items():
            self._undos[generation] = undos + self._undos.get(generation, [])
        self._transport = self._greeting
        self._held = False
        self._opened.set()
        if self._undos or self._owners or self._settlers:
            self._schedule()

    def full(self, *, full: bool) -> None:
        """Hear whether the shard has too much unread."""
        self._full = full

    def dropped(self) -> None:
        """Tell everybody who waits that the shard is gone, and connect again."""
        self._transport = self._greeting = None
        self._full = False
        self._opened.clear()
        orphans = self._flight.broke(self._loop.time() - self._patience)
        if not self._held:
            orphans += self._owners + self._settlers
            self._numbered -= len(self._items)  # as the shard counts: these it will never see
            self._items, self._owners = [], []
            self._settlements, self._settlers = [], []
            self._out = []
        self.failures["lost"] += len(orphans)
        for owner in orphans:
            owner.unavailable(self.shard)
        self.start()

    @property
    def _patience(self) -> float:
        """Seconds after which a shard has read what was sent to it."""
        return max(self._timeout, _READ_SECONDS)
