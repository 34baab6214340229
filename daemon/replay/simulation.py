"""Requests in simulated time through the daemon's own engine and shards (`fairvisor test`, §16.1).

Nothing sleeps and no process is started: the frames that would travel over sockets are packed,
unpacked and answered in this process.
"""

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import urlencode

import orjson

from daemon.engine.engine import NO_BUNDLE, Engine, Finished, learning_tag
from daemon.engine.evaluation import Evaluation
from daemon.engine.sources import Sources
from protocol.bundle import MICRO, Bundle
from protocol.decision import Decision
from protocol.descriptors import canonical_header, value_text
from protocol.frames import DECIDE, SETTLE, UNDO, FrameReader, pack
from protocol.operations import RuleSpec
from protocol.request import Request
from protocol.usage import Usage
from shard.service import ShardService

DEFAULT_SHARDS = 3
_MEMORY = 1 << 30


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of a reservation: tokens of the first LLM rule, else units of the first budget."""

    settled: bool
    refunded: float = 0
    overrun: float = 0


class Replay:
    """One daemon in a box: an engine, its shards, and what every request reserved.

    Times are in microseconds since the epoch. `evaluation` is that of the last request, None if
    no counter had to be asked.
    """

    def __init__(
        self, bundle: Bundle | None, sources: Sources, *, reservation_ttl: int = 3_600_000_000
    ) -> None:
        self._sources = sources
        self._shards = [ShardService(_MEMORY, reservation_ttl) for _ in range(sources.shards)]
        self.engine: Engine | None = None
        self.evaluation: Evaluation | None = None
        self._reservations: dict[int, tuple[Engine, Evaluation]] = {}
        self._numbers = count()
        if bundle is not None:
            self.load(bundle)

    def load(self, bundle: Bundle) -> None:
        """Switch to a bundle; unchanged counters survive (§2.7)."""
        generation = self.engine.generation + 1 if self.engine else 1
        self.engine = Engine(bundle, self._sources, generation)
        for shard in self._shards:
            shard.install(
                generation, [RuleSpec(*_wire(spec.to_wire())) for spec in self.engine.table]
            )

    def decide(self, request: Request, now: int) -> tuple[int, Finished]:
        """Return the request's number and its decision, charged on the shards."""
        number = next(self._numbers)
        engine = self.engine
        self.evaluation = None
        if engine is None:
            return number, Finished(NO_BUNDLE)
        begun = engine.begin(request, now)
        if isinstance(begun, Decision):
            return number, Finished(begun)
        self.evaluation = begun
        for shard, item in begun.parts.items():
            charged_at, replies = self._ask(shard, [DECIDE, engine.generation, now, [item]])
            begun.reply(shard, charged_at, replies[0])
        finished = engine.finish(begun)
        for shard, undos in finished.undos.items():
            self._ask(shard, [UNDO, engine.generation, now, undos])
        if begun.reservation and finished.decision.action != "reject":
            self._reservations[number] = (engine, begun)
        return number, finished

    def settle(self, number: int, usage: Usage | None, now: int) -> Settled:
        """Settle what request `number` reserved; a second time changes nothing."""
        if number not in self._reservations:
            return Settled(settled=False)
        engine, evaluation = self._reservations[number]
        wire = None if usage is None else usage.to_wire()
        entries: list[list[Any]] = []
        found = False
        for shard in evaluation.parts:
            _, replies = self._ask(shard, [SETTLE, now, [[evaluation.reservation, wire]]])
            if replies[0] is not None:
                found = True
                entries += replies[0]
        if not found:
            return Settled(settled=False)
        identities = [identity for _, identity, _, _ in entries]
        engine.learn(identities, learning_tag(evaluation), usage)
        return settled(sorted(entries), engine.table)

    def forget(self, number: int) -> None:
        """Drop what request `number` reserved from memory: nobody will settle it."""
        self._reservations.pop(number, None)

    def reset_breakers(self) -> None:
        """Reset every circuit breaker by hand (§17)."""
        if self.engine is None:
            return
        identities = [spec.identity for spec in self.engine.table if spec.kind == "breaker"]
        for shard in self._shards:
            for _step in shard.reset_breakers(identities, None, 0, in_flight=False):
                pass

    def _ask(self, shard: int, message: list[object]) -> tuple[int, list[Any]]:
        reply = self._shards[shard].answer(_wire(message))
        return _wire(reply) if reply is not None else (0, [])


def settled(entries: list[list[Any]], table: tuple[RuleSpec, ...]) -> Settled:
    """Return the first LLM rule's difference; entries are [number, identity, reserved, actual]."""
    tokens = [entry for entry in entries if table[entry[0]].kind == "token_bucket_llm"]
    if not entries:
        return Settled(settled=True)
    _, _, reserved, actual = (tokens or entries)[0]
    unit = 1 if tokens else MICRO
    return Settled(
        settled=True,
        refunded=_in_units(max(0, reserved - actual), unit),
        overrun=_in_units(max(0, actual - reserved), unit),
    )


def _in_units(amount: int, unit: int) -> float:
    return amount / unit if amount % unit else amount // unit


def request_of(entry: Mapping[str, Any], sources: Sources) -> Request:
    """Return the request that an entry of a requests file describes.

    `ip` is the socket peer's address, absent for a Unix socket; `jwt` holds claims, sent as an
    unsigned token; `body` is text, or any other JSON value; `query` is an object or text.
    A list in `headers` or `query` stands for a name that is sent several times.
    """
    path, _, query = str(entry.get("path", "/")).partition("?")
    more = entry.get("query")
    if more:
        added = urlencode(_pairs(more)) if isinstance(more, Mapping) else str(more)
        query = f"{query}&{added}" if query else added
    headers: dict[bytes, bytes] = {}
    for name, value in _pairs(entry.get("headers") or {}):
        key, raw = canonical_header(name).encode(), value.encode()
        if key == b"x-forwarded-for" and key in headers:
            headers[key] += b", " + raw
        headers.setdefault(key, raw)
    if entry.get("jwt") is not None:
        headers[b"authorization"] = unsigned_token(entry["jwt"])
    peer = str(entry.get("ip") or "")
    return Request(
        method=str(entry.get("method") or "GET"),
        path=path,
        headers=headers,
        query=query,
        host=str(entry.get("host") or "") or headers.get(b"host", b"").decode(),
        peer=peer,
        trusted=sources.trusted.trusts(peer),
        body=_body(entry.get("body")),
    )


def _pairs(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and values as text; a list stands for a name that is repeated."""
    return [
        (name, value_text(each) or "")
        for name, value in fields.items()
        for each in (value if isinstance(value, list) else [value])
    ]


def _body(body: object) -> bytes:
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else orjson.dumps(body)


def unsigned_token(claims: Mapping[str, object]) -> bytes:
    """Return claims as an unsigned bearer token (RFC 7519 §6)."""
    payload = _base64url(orjson.dumps(claims))
    return b"Bearer " + _base64url(b'{"alg":"none"}') + b"." + payload + b"."


def _base64url(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def _wire(message: Any) -> Any:  # noqa: ANN401 - whatever travels
    """Return a message as the other side of a socket would see it."""
    return FrameReader().feed(pack(message))[0]


__all__ = ["DEFAULT_SHARDS", "Replay", "Settled", "request_of", "settled"]
