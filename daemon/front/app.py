"""The endpoints of the decision API (behaviour §7.1, §9): a request in, exactly one answer out."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from time import perf_counter, time, time_ns

from adapters import dialects, native
from adapters.dialects import Dialect
from daemon.engine.context import Context
from daemon.engine.engine import NO_BUNDLE, UNAVAILABLE, Engine, Finished
from daemon.engine.evaluation import Evaluation
from daemon.engine.jitter import bucket_label
from daemon.engine.record import Decided
from daemon.engine.settlement import SettlementError, read_settlement
from daemon.front.answers import answer, no_content, respond
from daemon.front.debug import PATHS as DEBUG_PATHS
from daemon.front.debug import DebugSessions
from daemon.front.http1 import HttpConnection
from daemon.front.ledger import Ledger
from daemon.front.links import Link
from daemon.front.recorder import Recorder
from daemon.front.request_reader import Inbound
from daemon.front.settle import Settling
from daemon.front.tally import Tally
from protocol.answered import LAST_SLOT
from protocol.bundle import MICRO
from protocol.decision import Decision
from protocol.request import Request

Scrape = Callable[[Callable[[bytes], None]], bool]
"""Asks the supervisor for the metrics text of all processes and calls back with it; False if too
many ask."""

Deliver = Callable[[Decision, Evaluation | None, bytes], None]
"""Takes a decision, the evaluation that it came from, None if no counter was asked, and the header
lines of a debug session."""

LONG_BODY = 32_768
"""Bytes of a request whose prompt is counted beside the loop, where it is counted by vocabulary."""
_DELAY_HEADER = b"delay-header"
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def now_us() -> int:
    """Return the time in microseconds since the epoch."""
    return time_ns() // 1000


class App:
    """What a front serves. The process around it switches `engine`, `draining` and `unready`."""

    verbatim = False

    def __init__(  # noqa: PLR0913 - what it asks, what it tells, how it is set
        self,
        links: list[Link],
        tally: Tally,
        recorder: Recorder,
        scrape: Scrape,
        mode: str,
        debug: DebugSessions | None = None,
    ) -> None:
        self.engine: Engine | None = None
        self.draining = False
        self.unready = ""
        """Why the daemon as a whole should not be asked, by the supervisor's word."""
        self.loaded_at = ""
        self.links = links
        self.tally = tally
        self.recorder = recorder
        self.debug = debug
        self.mode = mode
        self._scrape = scrape
        # One at a time: a second would take the time of the loop's thread.
        self._counters = ThreadPoolExecutor(1, "counting")
        self._loop = asyncio.get_running_loop()
        self.clock = self._loop.time
        self.ledger = Ledger(tally, recorder, lambda: self.engine, now_us, self.clock)
        self._local: dict[bytes, Callable[[HttpConnection, Inbound], None]] = {
            b"/livez": self._livez,
            b"/readyz": self._readyz,
            b"/metrics": self._metrics,
        }

    def handle(self, connection: HttpConnection, inbound: Inbound) -> None:
        """Answer one request."""
        target = inbound.target
        # Nearly everything is native: one comparison instead of a look through the table.
        if target.startswith(native.PREFIX) and target[12:13] in _AFTER_PREFIX:
            self.decide(Exchange(self, connection, inbound))
            return
        dialect = dialects.find(target)
        if dialect is not None:
            self.decide(Exchange(self, connection, inbound, dialect))
            return
        path = native.origin_form(target) if not target.startswith(b"/") else target
        path = path.partition(b"?")[0]
        endpoint = self._local.get(path)
        if path == _SETTLE:
            self._settle(connection, inbound)
        elif path in DEBUG_PATHS and self.debug is not None:
            self.debug.handle(connection, inbound, path, time())
        elif endpoint is None:
            answer(connection, 404, {"error": "not_found", "try": "/v1/decision"})
        elif inbound.method not in {"GET", "HEAD"}:
            answer(connection, 405, {"error": "method_not_allowed"}, "Allow: GET, HEAD\r\n")
        else:
            endpoint(connection, inbound)

    def decide(self, exchange: "Exchange") -> None:
        """Have a request decided; the exchange gets the answer."""
        engine = self.engine
        inbound = exchange.inbound
        if not inbound.trusted:
            self.recorder.untrusted(inbound, self.clock())
        if engine is None:
            exchange.answer(NO_BUNDLE)
            return
        try:
            request = exchange.request()
            if len(request.body) > LONG_BODY and self._count_first(engine, exchange, request):
                return
            begun = engine.begin(request, now_us())
        except Exception as error:  # noqa: BLE001 - one request must not take the front with it
            exchange.fail(error)
            return
        self._go_on(engine, exchange, begun)

    def _go_on(self, engine: Engine, exchange: "Exchange", begun: Decision | Evaluation) -> None:
        if isinstance(begun, Decision):
            exchange.answer(begun)
        else:
            exchange.ask(engine, begun)

    def _count_first(self, engine: Engine, exchange: "Exchange", request: Request) -> bool:
        """Have a long prompt counted beside the loop, then decide; return whether that is needed.

        A MB takes 0.1 s, in which all other requests would wait.
        """
        context = engine.context(request, now_us())
        if not engine.counts_words(context):
            return False
        counting = self._loop.run_in_executor(self._counters, context.prompt_tokens, "tokenizer")
        counting.add_done_callback(lambda done: self._counted(exchange, context, done))
        return True

    def _counted(
        self, exchange: "Exchange", context: Context, counting: "asyncio.Future[int]"
    ) -> None:
        engine = self.engine  # perhaps another by now
        if engine is None or counting.cancelled():
            exchange.answer(UNAVAILABLE)
            return
        try:
            counting.result()
            begun = engine.begin(context.request, now_us(), context)
        except Exception as error:  # noqa: BLE001 - one request must not take the front with it
            exchange.fail(error)
            return
        self._go_on(engine, exchange, begun)

    def unseen(self, inbound: Inbound, host: str, path: str) -> Decision | None:
        """Return the decision on a request that no policy sees, None if it has to be made.

        Whatever is said of a decision beyond that needs an exchange, which takes 5 µs.
        """
        engine = self.engine
        if engine is None or self.debug is not None or self.recorder.everything:
            return None
        started = perf_counter()
        decision = engine.unseen(inbound.method, host, path)
        if decision is not None:
            if not inbound.trusted:
                self.recorder.untrusted(inbound, self.clock())
            self.tally.decided(decision, self.mode, perf_counter() - started)
        return decision

    def _settle(self, connection: HttpConnection, inbound: Inbound) -> None:
        if inbound.method != "POST":
            answer(connection, 405, {"error": "method_not_allowed"}, "Allow: POST\r\n")
            return
        try:
            settlement = read_settlement(inbound.body)
        except SettlementError as error:
            answer(connection, 400, {"error": "malformed_settlement", "message": str(error)})
            return
        count = partial(self.ledger.reported, settlement)
        Settling(partial(self._settled, connection), count).ask(settlement, self.links)

    def _settled(
        self,
        connection: HttpConnection,
        found: bool,  # noqa: FBT001 - a callback
        lost: bool,  # noqa: FBT001 - a callback
    ) -> None:
        if found:
            no_content(connection)
        elif lost:
            fields = "Retry-After: 1\r\n"
            answer(connection, 503, {"error": "counter_unavailable"}, fields)
        else:
            message = "unknown, expired or already settled"
            answer(connection, 409, {"error": "reservation_not_found", "message": message})

    def is_local(self, path: bytes) -> bool:
        """Return whether a path is the daemon's own in every mode (§9, §15)."""
        return path in self._local or (path in DEBUG_PATHS and self.debug is not None)

    def _livez(self, connection: HttpConnection, _inbound: Inbound) -> None:
        respond(connection, 200, "text/plain; charset=utf-8", b"ok")

    def _readyz(self, connection: HttpConnection, _inbound: Inbound) -> None:
        engine = self.engine
        if self.draining or engine is None or self.unready:
            reason = "no_policy_loaded" if engine is None else self.unready
            reason = "shutting_down" if self.draining else reason
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
        if not self._scrape(lambda text: respond(connection, 200, _METRICS_TYPE, text)):
            self.tally.add("requests_refused_total", ("scrapes",))
            answer(connection, 503, {"error": "busy"}, "Retry-After: 1\r\n")

    def later(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back after `delay` seconds."""
        return self._loop.call_later(delay, call)


_SETTLE = b"/v1/settle"
_NOTHING_REACHED = -1
_AFTER_PREFIX = {b"", b"/", b"?"}


class Exchange:
    """One decision on its way: owner of the shards' replies, writer of the answer.

    With `deliver` somebody else writes it, to `request` as they read it, and `connection` may be
    None.
    """

    __slots__ = ("_app", "_connection", "_deliver", "_dialect", "_engine", "_evaluation",
                 "_finished", "_more", "_number", "_page", "_request", "_started", "_waiting",
                 "inbound")  # fmt: skip

    def __init__(  # noqa: PLR0913 - whose, from whom, in which words, and for whom
        self,
        app: App,
        connection: HttpConnection | None,
        inbound: Inbound,
        dialect: Dialect = dialects.NATIVE,
        request: Request | None = None,
        deliver: Deliver | None = None,
    ) -> None:
        self._dialect = dialect
        self._request = request
        self._deliver = deliver
        self._app = app
        self._connection: HttpConnection = connection  # type: ignore[assignment]  # see above
        self._finished: Finished | None = None
        self.inbound = inbound
        self._started = perf_counter()
        self._waiting = 0
        # Where the answer is noted: for the first shard apart, since a list costs 0.1 µs.
        self._number = 0
        self._more: list[tuple[memoryview, int]] | None = None

    def request(self) -> Request:
        """Return the request to decide."""
        if self._request is not None:
            return self._request
        asked = self.inbound
        return self._dialect.read(
            asked.method,
            asked.target,
            asked.headers,
            asked.body,
            asked.peer,
            trusted=asked.trusted,
        )

    def ask(self, engine: Engine, evaluation: Evaluation) -> None:
        """Send the operations to their shards; the last reply finishes the exchange."""
        self._engine = engine
        self._evaluation = evaluation
        parts = evaluation.parts
        if not parts:
            self._finish()
            return
        # All are counted before any is asked: a link that is down answers at once.
        self._waiting = len(parts)
        links = self._app.links
        for shard, item in parts.items():
            link = links[shard]
            number = link.decide(engine.generation, item, self)
            if not self._number:
                self._page, self._number = link.answered, number
            elif number:
                self._more = [*(self._more or ()), (link.answered, number)]

    def _about_to_answer(self) -> None:
        """Note for the shards that what this request was charged stands."""
        number = self._number
        if number:
            self._page[number & LAST_SLOT] = number
            if self._more is not None:
                for page, also in self._more:
                    page[also & LAST_SLOT] = also

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

    def take_back(self) -> None:
        """Undo all charges of a request that was allowed, also those that are told late."""
        finished = self._finished
        if finished is None or finished.outcome is None or not self._evaluation.parts:
            return
        if finished.decision.action == "reject":
            return
        # As if a last check of another shard had refused.
        last = finished.outcome.refused_at = len(self._evaluation.checks) - 1
        for shard, undos in self._evaluation.undos(last).items():
            self._app.links[shard].undo(self._engine.generation, undos)

    def _finish(self) -> None:
        engine = self._engine
        evaluation = self._evaluation
        app = self._app
        try:
            finished = engine.finish(evaluation)
        except Exception as error:  # noqa: BLE001 - one request must not take the front with it
            with suppress(Exception):  # what could not be judged may not be told apart either
                for shard, undos in evaluation.undos(_NOTHING_REACHED).items():
                    app.links[shard].undo(engine.generation, undos)
            self.fail(error)
            return
        self._finished = finished
        for shard, undos in finished.undos.items():
            app.links[shard].undo(engine.generation, undos)
        app.tally.evaluated(evaluation, finished)
        if evaluation.missing:
            app.recorder.missing(evaluation.missing, app.clock())
        self.answer(finished.decision)
        if evaluation.unheard:
            # The link holds on to who waits for a late reply, and must not to bodies.
            evaluation.forget_request()
            del self.inbound, self._request

    def fail(self, error: Exception) -> None:
        """Answer a request that cannot be decided."""
        self._app.recorder.failed(error, self._app.clock())
        self.answer(UNAVAILABLE)

    def answer(self, decision: Decision) -> None:
        """Write the answer, after the delay of a throttle if the caller will not wait itself."""
        app = self._app
        seconds = perf_counter() - self._started
        app.tally.decided(decision, app.mode, seconds)
        if self._deliver is not None:
            self._about_to_answer()
            debug = app.debug
            fields = b"" if debug is None else self._debug_fields(debug, decision, seconds)
            self._deliver(decision, self._evaluation if self._finished else None, fields)
        else:
            self._write(decision, seconds)
        # Whatever is worth a record is rare, except where everything is recorded.
        if (
            decision.action != "allow"
            or decision.warning
            or decision.would_reject
            or app.recorder.everything
        ):
            self._record(decision, seconds)
        engine = app.engine
        if engine is not None and engine.overridable:
            app.tally.overridden(decision, engine.bundle, now_us())

    def _write(self, decision: Decision, seconds: float) -> None:
        app = self._app
        delay = decision.delay_ms
        told = delay > 0 and self._prefers_header()
        head, body = self._dialect.write(decision, delay_header=told)
        if app.debug is not None:
            head += self._debug_fields(app.debug, decision, seconds)
        connection = self._connection
        if delay and not told:
            self._about_to_answer()
            connection.wait(app.later(delay / 1000, lambda: connection.respond(head, body)))
        else:
            connection.respond(head, body, self._about_to_answer)

    def _prefers_header(self) -> bool:
        prefer = self.inbound.headers.get(b"x-fairvisor-prefer", b"")
        return prefer.strip().lower() == _DELAY_HEADER

    def _debug_fields(self, debug: DebugSessions, decision: Decision, seconds: float) -> bytes:
        evaluation = self._evaluation if self._finished else None
        return debug.fields(self.inbound, decision, evaluation, int(seconds * MICRO), time())

    def _record(self, decision: Decision, seconds: float) -> None:
        app, finished = self._app, self._finished
        if decision.action == "reject" and decision.retry_after:
            app.tally.add("retry_after_bucket_total", (bucket_label(decision.retry_after),))
        decided = Decided(
            decision,
            self.request(),
            now_us(),
            int(seconds * MICRO),
            self._engine if finished else app.engine,
            self._evaluation if finished else None,
            finished.outcome if finished else None,
        )
        app.recorder.decided(decided, app.clock())
