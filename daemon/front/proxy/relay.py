"""The I/O around one proxied exchange: passes events to it and does what it says."""

import asyncio
import logging

import msgspec

from daemon.engine.engine import reservation_of
from daemon.engine.evaluation import Evaluation
from daemon.engine.stream_caps import stream_caps
from daemon.front.http1 import HttpConnection
from daemon.front.inbound import Inbound
from daemon.front.plain_responses import PlainResponse
from daemon.front.proxy import actions
from daemon.front.proxy.actions import Actions
from daemon.front.proxy.asked import Asked
from daemon.front.proxy.exchange import ProxyExchange
from daemon.front.proxy.heads import request_framing
from daemon.front.proxy.passage import Passage
from daemon.front.proxy.surroundings import Surroundings
from daemon.front.trace import place
from daemon.front.upstream_caller import Failure, ResponseHead
from daemon.front.upstream_pool import Calling
from daemon.llm.meter import StreamMeter
from daemon.llm.providers import endpoint
from daemon.llm.stream_usage import ask_for_usage
from protocol.decision import Decision

log = logging.getLogger("fairvisor")

_TAKES_USAGE_OPTION = frozenset({"chat", "completions"})
_LAST_CHUNK = b"0\r\n\r\n"


class Relay:
    """Watcher of the client and caller of the upstream, for one exchange."""

    __slots__ = ("_body", "_call", "_connection", "_decision", "_delay", "_exchange", "_inbound",
                 "_leaving", "_meter", "_metered", "_more", "_passage", "_sent", "_steady",
                 "_surroundings", "_uploaded", "_waiting")  # fmt: skip

    def __init__(
        self,
        surroundings: Surroundings,
        connection: HttpConnection,
        inbound: Inbound,
        passage: Passage,
    ) -> None:
        # What every chunk needs lies together.
        self._steady = False
        self._meter: StreamMeter | None = None
        self._connection = connection
        self._surroundings = surroundings
        self._inbound = inbound
        self._passage = passage
        self._exchange = ProxyExchange(passage.route.family, surroundings.max_usage)
        self._body = inbound.body
        self._metered = False
        self._more = False
        self._call: Calling | None = None
        self._delay: asyncio.TimerHandle | None = None
        self._waiting: list[bytes] = []
        self._uploaded = not inbound.unfinished
        self._sent = False
        self._leaving = False
        connection.attach(self)

    def decided(
        self, decision: Decision, evaluation: Evaluation | None, debug: bytes = b""
    ) -> None:
        """Take the decision and what it was made from, None if no counter was asked.

        `debug` holds the header lines of a debug session.
        """
        if evaluation is not None and evaluation.unheard and decision.action != "reject":
            # What a late shard charges is settled with the rest.
            held = reservation_of(evaluation, silent=True)
            decision = msgspec.structs.replace(decision, reservation=held)
        self._decision = decision
        try:
            asked = self._asked(decision, evaluation)
        except Exception as error:  # noqa: BLE001 - one request must not take others with it
            # Whoever called is a shard's link with other requests' replies in hand. What cannot be
            # metered passes unread, and its reservation stays charged.
            kind = type(error).__name__
            log.error("a request cannot be metered: %s at %s", kind, place(error))  # noqa: TRY400 - its text may quote the request
            asked = Asked(self._inbound.method, "", "", self._inbound.modern, None)
        self._metered = asked.metered
        self._do(self._exchange.decided(decision, asked, debug))

    def take_over(self, decision: Decision, call: Calling | None) -> None:
        """Go on with a request that was allowed, is not metered and was sent by `call`.

        None: it could not be sent.
        """
        self._decision = decision
        self._exchange.decided(decision, self._passage.asked)
        self._exchange.upstream_sent()
        self._body = b""
        self._sent = True
        self._call = call

    def _asked(self, decision: Decision, evaluation: Evaluation | None) -> Asked:
        inbound, passage = self._inbound, self._passage
        route, asked = passage.route, passage.asked
        if route.family is None or evaluation is None or decision.action == "reject":
            return asked
        caps = stream_caps(evaluation)
        if not (decision.reservation or caps.cut or caps.shadow):
            return asked
        llm = evaluation.context.llm
        hidden = False
        if (
            decision.reservation
            and route.usage_option
            and not inbound.unfinished
            and endpoint(passage.path) in _TAKES_USAGE_OPTION
        ):
            self._body, hidden = ask_for_usage(self._body, llm.data)
        return Asked(
            asked.method, asked.path, asked.accept, asked.modern, route.family, llm, caps, hidden
        )

    # the client's side

    def client_gone(self) -> None:
        """Stop everything."""
        if self._delay is not None:
            self._delay.cancel()
        self._waiting.clear()
        call = self._call
        if self._metered and call is not None and call.conclude():
            self._leaving = True  # once what was produced until now has been read
        else:
            self._do(self._exchange.client_gone())

    def client_full(self) -> None:
        """Let the upstream wait for the client."""
        if self._call is not None:
            self._call.pause()

    def client_drained(self) -> None:
        """Let the upstream go on."""
        if self._call is not None:
            self._call.resume()

    def upload(self, chunk: bytes) -> None:
        """Pass more of the body on; until there is somewhere to pass it, let the client wait."""
        if b"content-length" not in self._inbound.headers:
            chunk = b"%x\r\n%b\r\n" % (len(chunk), chunk)
        if self._call is None:
            self._waiting.append(chunk)
            self._connection.hold()
        else:
            self._call.write(chunk)
            if not self._sent:
                self._connection.hold()

    def upload_ended(self) -> None:
        """Tell the upstream that the body is complete."""
        self._uploaded = True
        last = b"" if b"content-length" in self._inbound.headers else _LAST_CHUNK
        if self._call is None:
            self._waiting.append(last)
            return
        self._call.end_upload()
        if last:
            self._call.write(last)
        if self._sent:
            self._exchange.upstream_sent()

    # the upstream's side

    def upstream_sent(self) -> None:
        """Let the client go on with its body."""
        self._sent = True
        if self._uploaded:
            self._exchange.upstream_sent()
        self._connection.release()

    def upstream_head(self, head: ResponseHead, *, more: bool) -> "Relay":
        """Pass the head on."""
        self._more = more
        self._do(self._exchange.upstream_head(head))
        self._steady = self._exchange.steady
        self._meter = self._exchange.meter
        return self

    def upstream_plain(self, plain: PlainResponse) -> None:
        """Pass a whole answer on."""
        self._call = None
        self._more = True
        self._do(self._exchange.upstream_answer(ResponseHead.of(plain), plain.body))

    def upstream_chunk(self, framed: bytes, start: int) -> None:
        """Pass on a piece that came as one chunk, as most of a stream does."""
        if self._steady:
            meter = self._meter
            passed = framed if meter is None else meter.feed_chunk(framed, start)
            if passed is not None:
                self._connection.send(passed)
                return
        self.upstream_data(framed[start:-2])

    def upstream_data(self, data: bytes) -> None:
        """Pass a piece on."""
        self._do(self._exchange.upstream_data(data))
        if self._more:  # of the first piece, perhaps nothing may pass yet
            self._more = False
            self._connection.flush()

    def upstream_end(self) -> None:
        """End the answer."""
        self._call = None
        self._do(self._exchange.upstream_end())

    def upstream_failed(self, failure: Failure) -> None:
        """Answer for the upstream, or break off."""
        self._call = None
        if self._leaving:
            self._do(self._exchange.client_gone())
            return
        self._surroundings.pools.failed(self._passage.route.upstream, failure)
        self._do(self._exchange.upstream_failed(failure))

    def upstream_full(self) -> None:
        """Let the client wait for the upstream."""
        self._connection.hold()

    def upstream_drained(self) -> None:
        """Let the client go on."""
        self._connection.release()

    # doing

    def _do(self, todo: Actions) -> None:  # noqa: C901 - one line per action
        connection = self._connection
        for action in todo:
            match action:
                case actions.Send(data):
                    connection.send(data)
                case actions.Forward():
                    self._forward()
                case actions.Open(head, close):
                    connection.open(head, close=close, more=self._more)
                case actions.End():
                    connection.end()
                case actions.Respond(head, body):
                    connection.respond(head, body)
                case actions.Abort():
                    connection.cut()
                case actions.Wait(seconds):
                    self._delay = asyncio.get_running_loop().call_later(seconds, self._resume)
                case actions.CloseUpstream():
                    self._close_upstream()
                case actions.Settle(usage):
                    self._surroundings.settler.settle(self._decision.reservation, usage)
                case actions.Keep(why):
                    self._surroundings.settler.settle(self._decision.reservation, None, why)
                case actions.Truncated(counted):
                    self._surroundings.truncated(self._decision, counted)

    def _resume(self) -> None:
        self._delay = None
        self._do(self._exchange.delay_over())

    def _close_upstream(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _forward(self) -> None:
        inbound = self._inbound
        surroundings = self._surroundings
        heads = surroundings.plain_heads if self._metered else surroundings.heads
        body = self._body
        head = self._passage.head(heads, inbound) + request_framing(inbound, len(body))
        if inbound.unfinished and b"content-length" not in inbound.headers:
            body = b"%x\r\n%b\r\n" % (len(body), body)
        request = head + body
        if self._waiting:
            request = b"".join((request, *self._waiting))
            self._waiting.clear()
        self._body = b""
        call = self._passage.pool.send(
            request,
            self,
            surroundings.silence,
            headless=inbound.method == "HEAD",
            uploaded=self._uploaded,
        )
        # A kept connection that turns out dead has failed by now, and ended the exchange.
        if self._exchange.state == "asking":
            self._call = call
