"""The life of one proxied exchange: events in, actions out. Pure.

    deciding ──▶ refused
        │ ╲
        ▼   ▶ delayed ─▶ asking ──▶ relaying ──▶ done
       asking ─────────────┘

How the reservation ends, exactly once (§11.2; "given back" is a settlement without usage):

| what ends the exchange                             | reservation                           |
|----------------------------------------------------|---------------------------------------|
| whole JSON response with usage, any status         | settled by it                         |
| 4xx or 5xx without usage                           | given back                            |
| 2xx without usage, too large, not JSON, broken off | settled as estimated                  |
| compressed in a way that cannot be read            | settled as estimated                  |
| stream: end, end marker, cut, broken off           | reported usage, else prompt + counted |
| upstream unreachable or silent before its head     | given back                            |
| client gone before the whole request was sent      | given back                            |
| client gone, a stream was asked for                | reported usage, else prompt + counted |
| client gone, a whole response was asked for        | settled as estimated                  |

The last line: the upstream is stopped (§10.1), so nobody will hear how much it had produced. It may
have been all that was asked for, and less than what was produced is never charged.

A response is metered as a stream by §11.3, unless it says that it is one JSON document. A
compressed stream is metered, cut and passed on without its coding; a compressed document passes as
it is and is read on the side.
"""

from typing import Literal

from daemon.front.proxy import actions
from daemon.front.proxy.actions import Actions, Unknown
from daemon.front.proxy.asked import Asked
from daemon.front.proxy.heads import failure, has_body, refusal, response_head
from daemon.front.upstream_caller import Failure, ResponseHead
from daemon.llm.content_coding import CodingError, Decoder, decoder_for
from daemon.llm.extraction import MAX_PARSEABLE_BODY_BYTES, extract
from daemon.llm.meter import StreamMeter, framing_of
from daemon.llm.providers import Family
from protocol.decision import Decision
from protocol.usage import Usage

State = Literal["deciding", "delayed", "asking", "relaying", "done"]

_FAILURES: dict[Failure, tuple[int, str]] = {
    "unreachable": (502, "upstream_unreachable"),
    "unanswered": (502, "upstream_unreachable"),
    "broken": (502, "upstream_unreachable"),
    "timeout": (504, "upstream_timeout"),
}
_FIRST_ERROR = 400
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_FORWARD: Actions = [actions.Forward()]
_EXPANDED = 8 << 20
"""Bytes that one read of a compressed stream may expand to. Events that repeat each other shrink to
a thirtieth; what goes far beyond is out for memory."""


class ProxyExchange:
    """One exchange. Every method is an event and returns what to do.

    `meter` watches the answer from its head on, None if that is no stream or nobody counts it.
    """

    __slots__ = ("_asked", "_chunked", "_debug", "_decision", "_decoder", "_family", "_max_usage",
                 "_sent", "_status", "_tee", "_tee_bytes", "_unread", "_unsettled", "meter",
                 "state")  # fmt: skip

    def __init__(self, family: Family | None, max_usage: int = MAX_PARSEABLE_BODY_BYTES) -> None:
        self._family = family
        self._max_usage = max_usage
        self.state: State = "deciding"
        self._unsettled = False
        self._sent = False
        self._chunked = False
        self._status = 0
        self.meter: StreamMeter | None = None
        self._tee: list[bytes] | None = None
        self._tee_bytes = 0
        self._unread: Unknown = "not_metered"
        self._decoder: Decoder | None = None

    # events

    def decided(self, decision: Decision, asked: Asked, debug: bytes = b"") -> Actions:
        """Refuse, delay, or pass on. `debug` holds the header lines of a debug session."""
        gone = self.state == "done"
        self._decision = decision
        self._asked = asked
        self._debug = debug
        if decision.action == "reject":
            self.state = "done"
            return [] if gone else [actions.Respond(*refusal(decision, self._family, debug))]
        self._unsettled = bool(decision.reservation)
        if gone:
            return self._settle(None)
        if decision.delay_ms:
            self.state = "delayed"
            return [actions.Wait(decision.delay_ms / 1000)]
        self.state = "asking"
        return _FORWARD

    def delay_over(self) -> Actions:
        """Pass on after a throttle's delay."""
        if self.state != "delayed":
            return []
        self.state = "asking"
        return _FORWARD

    def upstream_sent(self) -> None:
        """Note that the upstream has the whole request and may be working from now on."""
        self._sent = True

    def upstream_head(self, head: ResponseHead) -> Actions:
        """Begin the client's answer."""
        self._status = head.status
        if not has_body(head.status, self._asked.method):
            self._unread = "usage_not_found"
        elif self._asked.metered:
            self._watch(head)
        return self._open(head)

    def _open(self, head: ResponseHead) -> Actions:
        self.state = "relaying"
        asked = self._asked
        body = has_body(head.status, asked.method)
        if not body or (head.length is not None and self.meter is None):
            framing = b""
            if head.length is not None and head.status != 204:  # noqa: PLR2004 - RFC 9110 §8.6
                framing = b"Content-Length: %d\r\n" % head.length
            return [actions.Open(response_head(head, self._decision, framing, self._debug))]
        self._chunked = asked.modern
        framing = _CHUNKED if self._chunked else b""
        decoded = self.meter is not None and self._decoder is not None
        opened = response_head(head, self._decision, framing, self._debug, decoded=decoded)
        return [actions.Open(opened, close=not self._chunked)]

    def upstream_answer(self, head: ResponseHead, body: bytes) -> Actions:
        """Pass a whole answer on and settle by what it said."""
        self._status = head.status
        if self._asked.metered:
            self._watch(head)
            if self.meter is not None:
                return [*self._open(head), *self.upstream_data(body), *self.upstream_end()]
            self._keep(body)
        self.state = "done"
        framing = b"Content-Length: %d\r\n" % len(body)
        opened = response_head(head, self._decision, framing, self._debug)
        return [*self._settle_response(), actions.Respond(opened, body)]

    @property
    def steady(self) -> bool:
        """Whether a chunk of HTTP may pass as one, by `meter.feed_chunk` if there is a meter.

        A chunk of which that makes nothing is for `upstream_data`, without its frame.
        """
        return self._chunked and self._decoder is None and self._tee is None

    def upstream_data(self, data: bytes) -> Actions:
        """Pass a piece on, as far as it may pass."""
        if self.state != "relaying":
            return []
        meter = self.meter
        if meter is None:
            self._keep(data)
            return self._send(data)
        if self._decoder is not None:
            try:
                data = self._decoder.feed(data, _EXPANDED)
            except CodingError:
                return [actions.CloseUpstream(), *self.upstream_failed("broken")]
        passed = meter.feed(data)
        if meter.truncated:
            return self._cut(meter, passed)
        return self._send(passed)

    def _cut(self, meter: StreamMeter, passed: bytes) -> Actions:
        self.state = "done"
        return [
            actions.Truncated(meter.counted),
            *self._settle(meter.usage()),
            *self._send(passed),
            *self._end(),
            actions.CloseUpstream(),
        ]

    def upstream_end(self) -> Actions:
        """End the client's answer and settle by what the response said."""
        if self.state != "relaying":
            return []
        self.state = "done"
        if self.meter is not None:
            tail = self._send(self.meter.end())
            return [*self._settle(self.meter.usage()), *tail, *self._end()]
        return [*self._settle_response(), *self._end()]

    def upstream_failed(self, why: Failure) -> Actions:
        """Answer for an upstream that did not, or break off as it did."""
        if self.state == "asking":
            self.state = "done"
            answer = failure(*_FAILURES[why], self._family)
            return [*self._settle(None), actions.Respond(*answer)]
        if self.state != "relaying":
            return []
        self.state = "done"
        if self.meter is not None:
            tail = self._send(self.meter.end())
            return [*self._settle(self.meter.usage()), *tail, actions.Abort()]
        return [*self._leave("response_broken"), actions.Abort()]

    def client_gone(self) -> Actions:
        """Stop the upstream and settle what was produced."""
        state, self.state = self.state, "done"
        if state in {"deciding", "done"}:
            return []  # nothing is charged yet, or all is settled
        if state == "delayed" or not self._sent:
            return [actions.CloseUpstream(), *self._settle(None)]
        if self.meter is not None:
            usage: Usage = self.meter.usage()
        elif state == "asking" and self._asked.metered and self._asked.streams(""):
            prompt = self._asked.caps.prompt if self._asked.caps else 0
            usage = Usage(prompt, 0, prompt)
        elif self._status >= _FIRST_ERROR:
            return [actions.CloseUpstream(), *self._settle(None)]
        else:
            return [actions.CloseUpstream(), *self._leave("client_gone")]
        return [actions.CloseUpstream(), *self._settle(usage)]

    # what the response is read for

    def _watch(self, head: ResponseHead) -> None:
        """Choose how to read the response: as a stream, as a whole, or not at all."""
        content_type = encoding = ""
        for name, value in head.headers:
            lower = name.lower()
            if lower == b"content-type":
                content_type = value.decode("latin-1")
            elif lower == b"content-encoding":
                encoding = value.decode("latin-1").strip().lower()
        if encoding not in {"", "identity"}:
            self._decoder = decoder_for(encoding)
            if self._decoder is None:
                self._unread = "compressed"
                return
        asked = self._asked
        family, caps = asked.family, asked.caps
        if family is None or caps is None:
            return
        framing = framing_of(family, content_type)
        whole = framing == "sse" and content_type.lower().startswith("application/json")
        if head.status >= _FIRST_ERROR or whole or not asked.streams(content_type):
            if self._unsettled:
                self._tee = []
            return
        self.meter = StreamMeter(
            family,
            prompt_tokens=caps.prompt,
            cut=caps.cut,
            shadow=caps.shadow,
            hide_usage=asked.hide_usage,
            framing=framing,
            count=caps.count,
        )

    def _keep(self, data: bytes) -> None:
        """Keep a piece of a whole response, to read its usage at the end."""
        if self._tee is None:
            return
        if self._decoder is not None:
            try:
                data = self._decoder.feed(data, self._max_usage)
            except CodingError:
                self._tee, self._unread = None, "compressed"
                return
        self._tee_bytes += len(data)
        if self._tee_bytes > self._max_usage:
            self._tee, self._unread = None, "body_too_large"
        else:
            self._tee.append(data)

    def _settle_response(self) -> Actions:
        found: Usage | Unknown = self._unread
        if self._tee is not None and self._family is not None:
            found = extract(self._family, b"".join(self._tee), max_bytes=self._max_usage)
        if isinstance(found, Usage):
            return self._settle(found)
        if self._status >= _FIRST_ERROR:
            return self._settle(None)
        return self._leave(found)

    # the reservation ends once

    def _settle(self, usage: Usage | None) -> Actions:
        if not self._unsettled:
            return []
        self._unsettled = False
        return [actions.Settle(usage)]

    def _leave(self, why: Unknown) -> Actions:
        if not self._unsettled:
            return []
        self._unsettled = False
        return [actions.Keep(why)]

    # the client's side

    def _send(self, data: bytes) -> Actions:
        if not data:
            return []
        return [actions.Send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)]

    def _end(self) -> Actions:
        return [actions.Send(_LAST_CHUNK), actions.End()] if self._chunked else [actions.End()]
