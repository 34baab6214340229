"""A shard process: a plain epoll loop around `ShardService`.

Fronts connect over a Unix socket; the supervisor speaks over an inherited socket pair. One read
takes what a front has sent so far, one write answers all of it. Where counters are stored, what all
fronts sent in a turn of the loop is kept with one write before any of it is answered.
"""

import gc
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Generator
from functools import partial

import msgspec
from setproctitle import setproctitle

from protocol import control
from protocol.frames import DECIDE, HELLO, FrameError, pack
from protocol.operations import RuleSpec
from shard.caution import CautiousClock
from shard.lifelines import Lifelines, receive_first
from shard.peer import Peer
from shard.service import ShardService
from shard.stores.restore import StoreOrders
from shard.storing import NOT_KNOWN, Storing

READ_BYTES = 65_536
"""One read; larger buffers cross the allocator's mmap threshold and cost a page fault each."""
MAX_UNSENT = 16 << 20
"""Reply bytes a front may leave unread before its link is cut."""
TIDY_SECONDS = 0.1
TIDY_BUDGET = 2_000
IDLE_SECONDS = 1.0
LAST_SECONDS = 1.0
"""How long a shard that is to end waits for its fronts' ends: they may have died unanswered."""
LAST_PATIENCE = 0.02
LAST_ALARM = 3
_LAST_TURNS = 1000
"""Turns of the loop after the order to end, while fronts' frames are still there to be read."""


class ShardServer:
    """The loop. `run` returns when the supervisor says so or is gone."""

    def __init__(self, index: int, control_sock: socket.socket, listener: socket.socket) -> None:
        self._index = index
        self._supervisor = Peer(control_sock)
        self._listener = listener
        self._poll = select.epoll()
        self._links: dict[int, Peer] = {}
        self._lifelines = Lifelines(self._poll)
        self._caution = CautiousClock(0, 0)
        self._ending = 0.0
        self._service: ShardService | None = None
        self._orders: StoreOrders | None = None
        self._storing: Storing | None = None
        self._served: dict[int, Peer] = {}
        self._running = True
        self._tidied = 0.0
        self._resets: deque[tuple[int, Generator[None, None, int]]] = deque()

    def run(self) -> None:
        """Serve until told to stop."""
        control_sock = self._supervisor.sock
        control_sock.settimeout(0)
        self._listener.settimeout(0)
        self._poll.register(control_sock, select.EPOLLIN)
        handlers: dict[int, Callable[[], None]] = {
            control_sock.fileno(): self._hear,
            self._listener.fileno(): self._accept,
        }
        links = self._links
        last_turns = _LAST_TURNS
        while self._running or last_turns:
            events = self._poll.poll(self._patience())
            if not self._running:
                # What was sent before the end was told is still done, and answered.
                last_turns = last_turns - 1 if events else 0
            for fd, mask in events:
                peer = links.get(fd)
                if peer is None:
                    handlers.get(fd, partial(self._bereaved, fd))()
                elif mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    self._serve(fd, peer)
                elif mask & select.EPOLLOUT:
                    self._send(fd, peer)
            self._after_turn(time.monotonic())
            if self._ending and self._is_over():
                break
        if self._storing is not None:
            self._storing.close()

    def _patience(self) -> float:
        """Return how long the loop may wait for something to happen."""
        if self._resets or not self._running:
            return 0
        if self._ending:
            return LAST_PATIENCE
        return IDLE_SECONDS if self._storing is None else self._storing.patience

    def _after_turn(self, now: float) -> None:
        """Store what this turn has changed and answer it, then do what is due."""
        if self._resets:
            self._reset_on()
        storing = self._storing
        if storing is not None:
            served, self._served = self._served, {}
            storing.commit(served.values())
            for fd, peer in served.items():
                if peer.out:
                    self._send(fd, peer)
            storing.go_on(now)
        if now - self._tidied >= TIDY_SECONDS and self._service is not None:
            self._tidied = now
            moment = self._caution.at(now_us(), time.monotonic_ns() // 1000)
            self._service.tidy(moment, TIDY_BUDGET)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.settimeout(0)
        self._links[sock.fileno()] = Peer(sock)
        self._poll.register(sock, select.EPOLLIN)

    def _serve(self, fd: int, peer: Peer) -> None:
        service = self._service
        data = _read(peer)
        if data is None:
            return
        if not data or service is None:
            self._drop(fd, peer)
            return
        try:
            frames = []
            for message in peer.reader.feed(data):
                if message[0] == HELLO:
                    self._greet(peer, message)
                    continue
                reply = service.answer(message)
                peer.applied += 1
                if reply is not None:
                    peer.replied += 1
                    frames.append(pack(reply))
                    if peer.unanswered is not None and message[0] == DECIDE:
                        peer.unanswered.applied(message, reply)
        except (FrameError, TypeError, ValueError, LookupError) as error:
            why = error if isinstance(error, FrameError) else type(error).__name__
            log(f"shard {self._index}: link dropped: {why}")
            self._drop(fd, peer)
            return
        out = frames[0] if len(frames) == 1 else b"".join(frames)
        if self._storing is not None:
            peer.fresh += out
            self._served[fd] = peer
        elif out or peer.out:
            peer.out += out
            self._send(fd, peer)

    def _greet(self, peer: Peer, message: list[object]) -> None:
        match message:
            case [_, bytes(link), int(received), int(numbered)] if link and not peer.link:
                peer.link = link
            case _:
                raise FrameError("not a greeting")
        self._lifelines.greeted(peer, numbered)
        if self._storing is None:
            peer.out += NOT_KNOWN
        else:
            self._storing.greet(peer, received)

    def _bereaved(self, lifeline: int) -> None:
        peer = self._lifelines.get(lifeline)
        if peer is None:
            return  # forgotten in this very turn
        fd = peer.sock.fileno()
        if fd >= 0:
            self._serve(fd, peer)  # as long as there is something: this comes again
        elif self._service is not None:
            count = self._lifelines.ended(lifeline, self._service)
            if count:
                log(f"shard {self._index}: {count} requests of a dead front were never answered")

    def _end(self) -> None:
        """End, but first hear of the fronts' ends: the supervisor's death is theirs, too."""
        self._ending = self._ending or time.monotonic() + LAST_SECONDS

    def _is_over(self) -> bool:
        everybody_gone = not (self._links or self._lifelines)
        return everybody_gone or time.monotonic() >= self._ending

    def _send(self, fd: int, peer: Peer) -> None:
        try:
            sent = peer.sock.send(peer.out)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            sent = len(peer.out)  # it is gone; what it said before is still to be read
        waiting = len(peer.out) > sent
        peer.out = peer.out[sent:]
        if len(peer.out) > MAX_UNSENT:
            log(f"shard {self._index}: link dropped: a front does not read its replies")
            self._drop(fd, peer)
            return
        if waiting != peer.blocked:
            peer.blocked = waiting
            self._poll.modify(fd, select.EPOLLIN | select.EPOLLOUT if waiting else select.EPOLLIN)

    def _drop(self, fd: int, peer: Peer) -> None:
        self._poll.unregister(fd)
        del self._links[fd]
        self._served.pop(fd, None)
        peer.sock.close()
        for handed in peer.handed:
            os.close(handed)
        peer.handed = []

    def _hear(self) -> None:
        try:
            data = self._supervisor.sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._poll.unregister(self._supervisor.sock)
            self._end()
            return
        for message in self._supervisor.reader.feed(data):
            self._obey(message)

    def _obey(self, message: list[object]) -> None:
        match message:
            case [
                control.CONFIGURE,
                {
                    "memory": int(memory),
                    "reservation_ttl": int(ttl),
                    "max_reservations": int(most),
                    "store": store,
                },
            ]:
                self._orders = msgspec.convert(store, StoreOrders | None)
                self._service = ShardService(memory, ttl, most, recovered=self._orders is not None)
            case [control.BUNDLE, int(generation), list(table), int(active)] if (
                self._service is not None
            ):
                self._service.install(generation, [RuleSpec(*row) for row in table], active)
                if self._orders is not None and self._storing is None:
                    peers = self._links.values()
                    self._storing = Storing(
                        self._index,
                        self._orders,
                        self._service,
                        self._notice,
                        lambda: peers,
                        self._alive,
                    )
                    steady = time.monotonic_ns() // 1000
                    self._caution = CautiousClock(self._storing.newest, steady)
                if len(self._links) == 0:
                    self._open()
                self._tell(control.PREPARED, generation)
            case [control.SNAPSHOT] if self._storing is not None:
                self._storing.take_snapshot()
            case [control.DRAIN]:
                self._running = False
            case [control.PING]:
                self._alive()
            case _ if self._service is not None:
                self._respond(message, self._service)

    def _respond(self, message: list[object], service: ShardService) -> None:
        """Answer what the supervisor asks."""
        match message:
            case [control.COLLECT, int(number)]:
                self._tell(control.TALLY, number, self._figures(service))
            case [control.BREAKERS, int(number)]:
                self._tell(control.TOLD, number, service.open_breakers(now_us()))
            case [control.RESET, int(number), list(identities), keys]:
                chosen = keys if isinstance(keys, list) else None
                reset = service.reset_breakers(identities, chosen, now_us())
                self._resets.append((number, reset))

    def _reset_on(self) -> None:
        """Go on with the oldest reset; fronts that wait are answered in between."""
        number, reset = self._resets[0]
        try:
            next(reset)
        except StopIteration as end:
            self._resets.popleft()
            if self._storing is not None:
                self._storing.commit()
            self._tell(control.TOLD, number, end.value)

    def _figures(self, service: ShardService) -> dict[str, object]:
        degraded = self._storing is not None and self._storing.degraded
        return {**service.figures(now_us()), "degraded": int(degraded)}

    def _alive(self) -> None:
        self._tell(control.PONG)

    def _notice(self, level: str, text: str) -> None:
        self._tell(control.NOTICE, level, text)

    def _open(self) -> None:
        """Begin to accept fronts; before the first rule table there is nothing to ask."""
        try:
            self._poll.register(self._listener, select.EPOLLIN)
        except FileExistsError:
            return

    def _tell(self, *message: object) -> None:
        sock = self._supervisor.sock
        try:
            sock.settimeout(None)
            sock.sendall(pack(message))
            sock.settimeout(0)
        except OSError:
            self._end()


def _read(peer: Peer) -> bytes | None:
    """Return what has come, b"" at the end, None if nothing has."""
    try:
        return peer.sock.recv(READ_BYTES) if peer.link else receive_first(peer, READ_BYTES)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError:
        return b""


def now_us() -> int:
    """Return the time in microseconds since the epoch."""
    return time.time_ns() // 1000


def log(text: str) -> None:
    """Write one line to standard error, where the supervisor's log goes."""
    sys.stderr.write(f"fairvisor: {text}\n")


def run(index: int, control_fd: int, listen_fd: int) -> None:
    """Serve as shard `index` on inherited sockets until the supervisor says stop or is gone."""
    setproctitle(f"fairvisor: shard {index}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # The supervisor is dead, which the end of its socket says, too: no shard may linger for ever.
    signal.signal(signal.SIGUSR2, lambda *_: signal.alarm(LAST_ALARM))
    # States hold no circles; what the collector would walk is every counter there is.
    gc.disable()
    ShardServer(index, socket.socket(fileno=control_fd), socket.socket(fileno=listen_fd)).run()
