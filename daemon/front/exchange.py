"""One decision on its way: to the shards, back from them, and out as an answer."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter, time
from typing import Protocol

from adapters import dialects
from adapters.dialects import Dialect
from daemon.engine.engine import UNAVAILABLE, Engine, Finished
from daemon.engine.evaluation import Evaluation
from daemon.engine.jitter import bucket_label
from daemon.engine.record import Decided
from daemon.front.clock import now_us
from daemon.front.debug import DebugSessions
from daemon.front.http1 import HttpConnection
from daemon.front.inbound import Inbound
from daemon.front.links import Link
from daemon.front.recorder import Recorder
from daemon.front.tally import Tally
from protocol.answered import LAST_SLOT
from protocol.bundle import MICRO
from protocol.decision import Decision
from protocol.request import Request

Deliver = Callable[[Decision, Evaluation | None, bytes], None]
"""Takes a decision, the evaluation that it came from, None if no counter was asked, and the header
lines of a debug session."""

_DELAY_HEADER = b"delay-header"
_NOTHING_REACHED = -1


class Decider(Protocol):
    """What an exchange needs of the front that it is in."""

    engine: Engine | None
    links: list[Link]
    tally: Tally
    recorder: Recorder
    debug: DebugSessions | None
    mode: str
    clock: Callable[[], float]

    def later(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back after `delay` seconds."""
        ...


class Exchange:
    """Owner of the shards' replies, writer of the answer.

    With `deliver` somebody else writes it, to `request` as they read it, and `connection` may be
    None.
    """

    __slots__ = ("_app", "_connection", "_deliver", "_dialect", "_engine", "_evaluation",
                 "_finished", "_more", "_number", "_page", "_request", "_started", "_waiting",
                 "inbound")  # fmt: skip

    def __init__(  # noqa: PLR0913 - whose, from whom, in which words, and for whom
        self,
        app: Decider,
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
