"""The endpoints of the decision API (behaviour §7.1, §9): a request in, exactly one answer out."""

import asyncio
from collections.abc import Callable
from functools import partial
from time import perf_counter, time_ns
from typing import Any

import orjson

from adapters import native
from daemon.engine.engine import NO_BUNDLE, Engine, Finished
from daemon.engine.evaluation import Evaluation
from daemon.engine.jitter import bucket_label
from daemon.engine.settlement import SettlementError, read_settlement
from daemon.front.http1 import HttpConnection
from daemon.front.links import Link
from daemon.front.request_reader import Inbound
from daemon.front.settle import Settling
from daemon.front.tally import Tally
from protocol.decision import Decision

Scrape = Callable[[Callable[[bytes], None]], None]
"""Asks the supervisor for the metrics text of all processes and calls back with it."""

_DELAY_HEADER = b"delay-header"
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def now_us() -> int:
    """Return the time in microseconds since the epoch."""
    return time_ns() // 1000


class App:
    """What a front serves. The process around it switches `engine` and `draining`."""

    def __init__(self, links: list[Link], tally: Tally, scrape: Scrape, mode: str) -> None:
        self.engine: Engine | None = None
        self.draining = False
        self.loaded_at = ""
        self.links = links
        self.tally = tally
        self.mode = mode
        self._scrape = scrape
        self._loop = asyncio.get_running_loop()
        self._local: dict[bytes, Callable[[HttpConnection, Inbound], None]] = {
            b"/livez": self._livez,
            b"/readyz": self._readyz,
            b"/metrics": self._metrics,
        }

    def handle(self, connection: HttpConnection, inbound: Inbound) -> None:
        """Answer one request."""
        target = inbound.target
        if target.startswith(native.PREFIX) and target[12:13] in _AFTER_PREFIX:
            self._decide(connection, inbound)
            return
        path = native.origin_form(target) if not target.startswith(b"/") else target
        path = path.partition(b"?")[0]
        endpoint = self._local.get(path)
        if path == _SETTLE:
            self._settle(connection, inbound)
        elif endpoint is None:
            answer(connection, 404, {"error": "not_found", "try": "/v1/decision"})
        elif inbound.method not in {"GET", "HEAD"}:
            answer(connection, 405, {"error": "method_not_allowed"}, "Allow: GET, HEAD\r\n")
        else:
            endpoint(connection, inbound)

    def _decide(self, connection: HttpConnection, inbound: Inbound) -> None:
        exchange = Exchange(self, connection, inbound)
        engine = self.engine
        if engine is None:
            exchange.answer(NO_BUNDLE)
            return
        request = native.read(
            inbound.method,
            inbound.target,
            inbound.headers,
            inbound.body,
            inbound.peer,
            trusted=inbound.trusted,
        )
        begun = engine.begin(request, now_us())
        if isinstance(begun, Decision):
            exchange.answer(begun)
        else:
            exchange.ask(engine, begun)

    def _settle(self, connection: HttpConnection, inbound: Inbound) -> None:
        if inbound.method != "POST":
            answer(connection, 405, {"error": "method_not_allowed"}, "Allow: POST\r\n")
            return
        try:
            settlement = read_settlement(inbound.body)
        except SettlementError as error:
            answer(connection, 400, {"error": "malformed_settlement", "message": str(error)})
            return
        Settling(partial(self._settled, connection)).ask(settlement, self.links)

    def _settled(
        self,
        connection: HttpConnection,
        found: bool,  # noqa: FBT001 - a callback
        lost: bool,  # noqa: FBT001 - a callback
        entries: list[list[Any]],
    ) -> None:
        checks = self.engine.checks if self.engine else {}
        for _number, identity, reserved, actual in entries:
            check = checks.get(identity)
            if check is not None and check.kind == "token_bucket_llm":
                labels = ("actual", check.policy_id, check.route)
                self.tally.add("tokens_consumed_total", labels, actual)
                unused = max(0, reserved - actual)
                self.tally.add("token_reservation_unused_total", (check.route,), unused)
        if found:
            connection.respond(b"HTTP/1.1 204 No Content\r\n")
        elif lost:
            fields = "Retry-After: 1\r\n"
            answer(connection, 503, {"error": "counter_unavailable"}, fields)
        else:
            message = "unknown, expired or already settled"
            answer(connection, 409, {"error": "reservation_not_found", "message": message})

    def _livez(self, connection: HttpConnection, _inbound: Inbound) -> None:
        respond(connection, 200, "text/plain; charset=utf-8", b"ok")

    def _readyz(self, connection: HttpConnection, _inbound: Inbound) -> None:
        engine = self.engine
        if self.draining or engine is None:
            reason = "shutting_down" if self.draining else "no_policy_loaded"
            answer(connection, 503, {"status": "not_ready", "reason": reason})
            return
        answer(
            connection,
            200,
            {
                "status": "ok",
                "policy_version": engine.bundle.version,
                "policy_hash": engine.bundle.hash,
                "last_config_update": self.loaded_at,
            },
        )

    def _metrics(self, connection: HttpConnection, _inbound: Inbound) -> None:
        self._scrape(lambda text: respond(connection, 200, _METRICS_TYPE, text))

    def later(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back after `delay` seconds."""
        return self._loop.call_later(delay, call)


_SETTLE = b"/v1/settle"
_AFTER_PREFIX = {b"", b"/", b"?"}


class Exchange:
    """One decision on its way: owner of the shards' replies, writer of the answer."""

    __slots__ = ("_app", "_connection", "_engine", "_evaluation", "_finished", "_inbound",
                 "_started", "_waiting")  # fmt: skip

    def __init__(self, app: App, connection: HttpConnection, inbound: Inbound) -> None:
        self._app = app
        self._connection = connection
        self._inbound = inbound
        self._started = perf_counter()
        self._waiting = 0

    def ask(self, engine: Engine, evaluation: Evaluation) -> None:
        """Send the operations to their shards; the last reply finishes the exchange."""
        self._engine = engine
        self._evaluation = evaluation
        self._finished: Finished | None = None
        parts = evaluation.parts
        if not parts:
            self._finish()
            return
        # All are counted before any is asked: a link that is down answers at once.
        self._waiting = len(parts)
        links = self._app.links
        for shard, item in parts.items():
            links[shard].decide(engine.generation, item, self)

    def reply(self, shard: int, charged_at: int, reply: object) -> None:
        """Take a shard's reply."""
        self._evaluation.reply(shard, charged_at, reply)
        self._waiting -= 1
        if not self._waiting:
            self._finish()

    def unavailable(self, _shard: int) -> None:
        """Go on without a shard: the rules' `on_error` decides (§13.3)."""
        self._waiting -= 1
        if not self._waiting:
            self._finish()

    def late(self, shard: int, charged_at: int, reply: object) -> None:
        """Take a reply after its time: if the request was refused meanwhile, undo its charges."""
        evaluation = self._evaluation
        evaluation.reply(shard, charged_at, reply)
        finished = self._finished
        if finished is None or finished.outcome is None:
            return
        undos = evaluation.undos(finished.outcome.refused_at).get(shard)
        if undos:
            self._app.links[shard].undo(self._engine.generation, undos)

    def _finish(self) -> None:
        engine = self._engine
        finished = self._finished = engine.finish(self._evaluation)
        for shard, undos in finished.undos.items():
            self._app.links[shard].undo(engine.generation, undos)
        self._count(finished)
        self.answer(finished.decision)

    def _count(self, finished: Finished) -> None:
        tally = self._app.tally
        for key in self._evaluation.missing:
            tally.add("descriptor_missing_total", (key,))
        outcome = finished.outcome
        if outcome is not None and outcome.degraded:
            for labels in outcome.degraded:
                tally.add("degraded_decisions_total", labels)

    def answer(self, decision: Decision) -> None:
        """Write the answer, after the delay of a throttle if the caller will not wait itself."""
        app = self._app
        app.tally.decided(
            decision.action,
            decision.reason,
            decision.policy_id or "none",
            decision.route,
            app.mode,
            perf_counter() - self._started,
        )
        if decision.action == "reject" and decision.retry_after:
            app.tally.add("retry_after_bucket_total", (bucket_label(decision.retry_after),))
        connection = self._connection
        if not decision.delay_ms:
            connection.respond(*native.write(decision))
            return
        prefer = self._inbound.headers.get(b"x-fairvisor-prefer", b"").strip().lower()
        if prefer == _DELAY_HEADER:
            connection.respond(*native.write(decision, delay_header=True))
            return
        head, body = native.write(decision)
        connection.wait(app.later(decision.delay_ms / 1000, lambda: connection.respond(head, body)))


def answer(connection: HttpConnection, status: int, document: object, fields: str = "") -> None:
    """Answer with a JSON document; `fields` are further header lines, each ended by CRLF."""
    respond(connection, status, "application/json", orjson.dumps(document), fields)


def respond(
    connection: HttpConnection, status: int, content_type: str, body: bytes, fields: str = ""
) -> None:
    """Answer with a body."""
    head = (
        f"HTTP/1.1 {status} {native.PHRASES[status]}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n{fields}"
    )
    connection.respond(head.encode(), body)
