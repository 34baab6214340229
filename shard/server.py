"""A shard process: a plain epoll loop around `ShardService`.

Fronts connect over a Unix socket; the supervisor speaks over an inherited socket pair. One read
takes what a front has sent so far, one write answers all of it. Where counters are stored, what all
fronts sent in a turn of the loop is kept with one write before any of it is answered.
"""

import gc
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Generator

import msgspec
from setproctitle import setproctitle

from protocol import control
from protocol.frames import HELLO, FrameError, pack
from protocol.operations import RuleSpec
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


class ShardServer:
    """The loop. `run` returns when the supervisor says so or is gone."""

    def __init__(self, index: int, control_sock: socket.socket, listener: socket.socket) -> None:
        self._index = index
        self._supervisor = Peer(control_sock)
        self._listener = listener
        self._poll = select.epoll()
        self._links: dict[int, Peer] = {}
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
        while self._running:
            for fd, mask in self._poll.poll(self._patience()):
                peer = links.get(fd)
                if peer is None:
                    handler = handlers.get(fd)
                    if handler is not None:
                        handler()
                elif mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    self._serve(fd, peer)
                elif mask & select.EPOLLOUT:
                    self._send(fd, peer)
            self._after_turn(time.monotonic())
        if self._storing is not None:
            self._storing.close()

    def _patience(self) -> float:
        """Return how long the loop may wait for something to happen."""
        if self._resets:
            return 0
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
            self._service.tidy(now_us(), TIDY_BUDGET)

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
        try:
            data = peer.sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
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
        if self._storing is None:
            peer.out += NOT_KNOWN
        else:
            self._storing.greet(peer, message)

    def _send(self, fd: int, peer: Peer) -> None:
        try:
            sent = peer.sock.send(peer.out)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._drop(fd, peer)
            return
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

    def _hear(self) -> None:
        try:
            data = self._supervisor.sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._running = False
            return
        for message in self._supervisor.reader.feed(data):
            self._obey(message)

    def _obey(self, message: list[object]) -> None:
        match message:
            case [
                control.CONFIGURE,
                {"memory": int(memory), "reservation_ttl": int(ttl), "store": store},
            ]:
                self._orders = msgspec.convert(store, StoreOrders | None)
                self._service = ShardService(memory, ttl, recovered=self._orders is not None)
            case [control.BUNDLE, int(generation), list(table), int(active)] if (
                self._service is not None
            ):
                self._service.install(generation, [RuleSpec(*row) for row in table], active)
                if self._orders is not None and self._storing is None:
                    peers = self._links.values()
                    self._storing = Storing(
                        self._index, self._orders, self._service, self._notice, lambda: peers
                    )
                if len(self._links) == 0:
                    self._open()
                self._tell(control.PREPARED, generation)
            case [control.COLLECT, int(number)] if self._service is not None:
                self._tell(control.TALLY, number, self._figures(self._service))
            case [control.BREAKERS, int(number)] if self._service is not None:
                self._tell(control.TOLD, number, self._service.open_breakers(now_us()))
            case [control.RESET, int(number), list(identities), keys] if self._service is not None:
                chosen = keys if isinstance(keys, list) else None
                reset = self._service.reset_breakers(identities, chosen, now_us())
                self._resets.append((number, reset))
            case [control.SNAPSHOT] if self._storing is not None:
                self._storing.take_snapshot()
            case [control.DRAIN]:
                self._running = False

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
            self._running = False


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
    # States hold no circles; what the collector would walk is every counter there is.
    gc.disable()
    ShardServer(index, socket.socket(fileno=control_fd), socket.socket(fileno=listen_fd)).run()
