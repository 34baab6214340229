"""Two fronts and some shards, with every frame between them held up at will.

The parts are the product's own: engines, shard services, packed frames. What is played here is the
sockets (first in, first out on each link, in any order across links), the clocks (skewed), the
owner timeout and the death of shards.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from daemon.engine.engine import Engine, Finished
from daemon.engine.evaluation import Evaluation
from daemon.engine.settlement import _identify
from daemon.engine.sources import Sources
from daemon.replay import request_of
from protocol.bundle import Bundle
from protocol.decision import Decision
from protocol.frames import DECIDE, SETTLE, UNDO, FrameReader, pack
from protocol.operations import RuleSpec
from shard.service import ShardService

MICRO = 1_000_000
TTL = 3600 * MICRO
Json = dict[str, Any]


@dataclass(eq=False)
class Exchange:
    """One request at a front, as `daemon.front.app.Exchange` leads it."""

    number: int
    front: int
    evaluation: Evaluation
    waiting: set[int]
    finished: Finished | None = None
    known: dict[int, list[Any]] = field(default_factory=dict)
    """What each shard said in time."""
    lives: dict[int, int] = field(default_factory=dict)
    """Which life of each shard evaluated the request."""
    resets: dict[int, int] = field(default_factory=dict)
    """How many resets by hand of each shard came before."""

    @property
    def decision(self) -> Decision:
        assert self.finished is not None, "nobody waits for ever"
        return self.finished.decision


@dataclass(eq=False)
class Asked:
    """A frame that will be answered, and for whom."""

    exchange: Exchange
    kind: int
    expired: bool = False


@dataclass(eq=False)
class Link:
    """One front's connection to one shard."""

    down: deque[tuple[bytes, Asked | None]] = field(default_factory=deque)
    up: deque[tuple[bytes, Asked]] = field(default_factory=deque)
    in_flight: deque[Asked] = field(default_factory=deque)


class Network:
    """`skews`: by how many microseconds each front's clock is ahead of `now`."""

    def __init__(self, bundle: Bundle, skews: tuple[int, ...], shards: int, now: int) -> None:
        self.now = now
        self.skews = skews
        self.engines = [
            Engine(bundle, Sources(draw_id=_ids(front), shards=shards), 1)
            for front in range(len(skews))
        ]
        self.lives = [0] * shards
        self.services = [self._service() for _ in range(shards)]
        self.links = {
            (front, shard): Link() for front in range(len(skews)) for shard in range(shards)
        }
        self.exchanges: list[Exchange] = []
        self.resets = [0] * shards
        """How often the breakers of each shard were reset by hand."""
        self.settled: dict[tuple[int, int], list[list[Any]]] = {}
        """What the settlement of a request's part on a shard has settled, once."""

    def _service(self) -> ShardService:
        service = ShardService(1 << 30, TTL)
        specs = [RuleSpec(*spec.to_wire()) for spec in self.engines[0].table]  # type: ignore[arg-type]
        service.install(1, specs)
        return service

    # what a front does

    def ask(self, front: int, entry: Json) -> None:
        engine = self.engines[front]
        begun = engine.begin(request_of(entry, engine.sources), self._stamp(front))
        if isinstance(begun, Decision):
            return
        exchange = Exchange(len(self.exchanges), front, begun, set(begun.parts))
        self.exchanges.append(exchange)
        for shard, item in begun.parts.items():
            self._send(front, shard, [DECIDE, 1, self._stamp(front), [item]], exchange)
        if not begun.parts:
            self._finish(exchange)

    def settle(self, exchange: Exchange, front: int, usage: list[int | None] | None) -> None:
        """Settle through any front, as the reservation that the client was given says."""
        bare, places, _model = _identify(exchange.decision.reservation)
        for shard in {place % len(self.services) for place in places}:
            self._send(front, shard, [SETTLE, self._stamp(front), [[bare, usage]]], exchange)

    def _finish(self, exchange: Exchange) -> None:
        exchange.finished = self.engines[exchange.front].finish(exchange.evaluation)
        for shard, undos in exchange.finished.undos.items():
            self._undo(exchange.front, shard, undos)

    def _undo(self, front: int, shard: int, undos: list[list[object]]) -> None:
        self.links[front, shard].down.append((pack([UNDO, 1, self._stamp(front), undos]), None))

    def _send(self, front: int, shard: int, frame: list[object], exchange: Exchange) -> None:
        link = self.links[front, shard]
        asked = Asked(exchange, frame[0])  # type: ignore[arg-type]
        link.down.append((pack(frame), asked))
        link.in_flight.append(asked)

    def _stamp(self, front: int) -> int:
        return self.now + self.skews[front]

    def _without(self, exchange: Exchange, shard: int) -> None:
        exchange.waiting.discard(shard)
        if not exchange.waiting and exchange.finished is None:
            self._finish(exchange)

    # what the world does

    def events(self) -> list[Callable[[], None]]:
        """Return everything that can happen next on the links."""
        found: list[Callable[[], None]] = []
        for (front, shard), link in self.links.items():
            if link.down:
                found.append(lambda link=link, shard=shard: self.deliver(link, shard))  # type: ignore[misc]
            if link.up:
                found.append(lambda link=link, shard=shard: self.hand_over(link, shard))  # type: ignore[misc]
            del front
        return found

    def timeouts(self) -> list[Callable[[], None]]:
        """Return the owner timeouts that may strike."""
        return [
            lambda link=link, shard=shard: self.expire(link, shard)  # type: ignore[misc]
            for (_, shard), link in self.links.items()
            if any(not asked.expired for asked in link.in_flight)
        ]

    def deliver(self, link: Link, shard: int) -> None:
        raw, asked = link.down.popleft()
        (message,) = FrameReader().feed(raw)
        reply = self.services[shard].answer(message)
        if asked is None:
            assert reply is None
            return
        assert reply is not None
        exchange = asked.exchange
        if asked.kind == DECIDE:
            exchange.lives[shard] = self.lives[shard]
            exchange.resets[shard] = self.resets[shard]
        elif reply[1][0] is not None:  # type: ignore[index]
            assert (exchange.number, shard) not in self.settled, "settled at most once"
            self.settled[exchange.number, shard] = reply[1][0]  # type: ignore[index]
        link.up.append((pack(reply), asked))

    def hand_over(self, link: Link, shard: int) -> None:
        raw, asked = link.up.popleft()
        assert link.in_flight.popleft() is asked, "first in, first out"
        if asked.kind == SETTLE:
            return
        ((charged_at, (reply,)),) = FrameReader().feed(raw)  # type: ignore[misc]
        exchange = asked.exchange
        exchange.evaluation.reply(shard, charged_at, reply)
        if exchange.finished is None:
            exchange.known[shard] = list(exchange.evaluation.replies[shard])
        elif exchange.finished.outcome is not None:
            undos = exchange.evaluation.undos(exchange.finished.outcome.refused_at)
            if shard in undos:
                self._undo(exchange.front, shard, undos[shard])
        self._without(exchange, shard)

    def expire(self, link: Link, shard: int) -> None:
        """Let the oldest question on a link wait no longer."""
        asked = next(asked for asked in link.in_flight if not asked.expired)
        asked.expired = True
        if asked.kind == DECIDE:
            self._without(asked.exchange, shard)

    def restart(self, shard: int) -> None:
        """Kill a shard and everything on its links; its successor starts with nothing."""
        self.lives[shard] += 1
        self.services[shard] = self._service()
        self.now += 3 * MICRO  # longer than clocks differ
        orphans = []
        for (_, owner), link in self.links.items():
            if owner == shard:
                orphans += [asked for asked in link.in_flight if asked.kind == DECIDE]
                link.down.clear()
                link.up.clear()
                link.in_flight.clear()
        for asked in orphans:
            self._without(asked.exchange, shard)

    def reset(self, shard: int) -> None:
        """Reset all breakers of a shard by hand, whatever is in flight."""
        self.resets[shard] += 1
        identities = [spec.identity for spec in self.engines[0].table if spec.kind == "breaker"]
        for _step in self.services[shard].reset_breakers(identities, None, self.now):
            pass

    def drain(self) -> None:
        """Let everything that is under way arrive."""
        while events := self.events():
            events[0]()


def _ids(front: int) -> Callable[[], bytes]:
    def numbers() -> Iterator[bytes]:
        number = 0
        while True:
            number += 1
            yield bytes([front]) + number.to_bytes(15)

    return numbers().__next__
