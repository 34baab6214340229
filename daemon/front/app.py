"""The endpoints of the decision API (behaviour §7.1, §9): a request in, exactly one answer out."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import time

from adapters import dialects, native
from daemon.engine.context import Context
from daemon.engine.engine import NO_BUNDLE, UNAVAILABLE, Engine
from daemon.engine.evaluation import Evaluation
from daemon.engine.settlement import SettlementError, read_settlement
from daemon.front.answers import answer, no_content, respond
from daemon.front.clock import now_us
from daemon.front.debug import PATHS as DEBUG_PATHS
from daemon.front.debug import DebugSessions
from daemon.front.exchange import Exchange
from daemon.front.http1 import HttpConnection
from daemon.front.inbound import Inbound
from daemon.front.ledger import Ledger
from daemon.front.links import Link
from daemon.front.recorder import Recorder
from daemon.front.settle import Settling
from daemon.front.tally import Tally
from protocol.decision import Decision
from protocol.request import Request

Scrape = Callable[[Callable[[bytes], None]], bool]
"""Asks the supervisor for the metrics text of all processes and calls back with it; False if too
many ask."""

LONG_BODY = 32_768
"""Bytes of a request whose prompt is counted beside the loop, where it is counted by vocabulary."""
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


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

    def decide(self, exchange: Exchange) -> None:
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

    def _go_on(self, engine: Engine, exchange: Exchange, begun: Decision | Evaluation) -> None:
        if isinstance(begun, Decision):
            exchange.answer(begun)
        else:
            exchange.ask(engine, begun)

    def _count_first(self, engine: Engine, exchange: Exchange, request: Request) -> bool:
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
        self, exchange: Exchange, context: Context, counting: "asyncio.Future[int]"
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

    @property
    def terse(self) -> bool:
        """Whether nothing is said of a decision on a request that no policy sees: only counted."""
        return self.debug is None and not self.recorder.everything

    def unseen(self, inbound: Inbound, decision: Decision, seconds: float) -> None:
        """Count a decision on a request that no policy sees, which took so long."""
        if not inbound.trusted:
            self.recorder.untrusted(inbound, self.clock())
        self.tally.decided(decision, self.mode, seconds)

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
_AFTER_PREFIX = {b"", b"/", b"?"}
