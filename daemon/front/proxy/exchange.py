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
| 2xx without usage, too large, not JSON, broken off | stays charged                         |
| stream: end, end marker, cut, broken off           | reported usage, else prompt + counted |
| upstream unreachable or silent before its head     | given back                            |
| client gone before the request was sent            | given back                            |
| client gone, a stream was asked for                | reported usage, else prompt + counted |
| client gone, a whole response was asked for        | stays charged: it was produced anyway |

A response is metered as a stream by §11.3, unless it says that it is one JSON document.
"""

from dataclasses import dataclass
from typing import Literal

from daemon.engine.stream_caps import StreamCaps
from daemon.front.proxy import actions
from daemon.front.proxy.actions import Actions
from daemon.front.proxy.heads import failure, has_body, refusal, response_head
from daemon.front.upstream import Failure, ResponseHead
from daemon.llm.extraction import MAX_PARSEABLE_BODY_BYTES, extract
from daemon.llm.meter import StreamMeter, framing_of
from daemon.llm.providers import Family
from daemon.llm.request import LlmRequest, is_stream
from protocol.decision import Decision
from protocol.usage import Usage

State = Literal["deciding", "delayed", "asking", "relaying", "done"]

_FAILURES: dict[Failure, tuple[int, str]] = {
    "unreachable": (502, "upstream_unreachable"),
    "broken": (502, "upstream_unreachable"),
    "timeout": (504, "upstream_timeout"),
}
_FIRST_ERROR = 400
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the request says about its response.

    `modern`: the client takes chunks (HTTP/1.1). `metered`: a reservation or a cap depends on what
    comes back. `hide_usage`: the daemon asked for the usage chunk, not the client.
    """

    method: str
    path: str
    accept: str
    modern: bool
    family: Family | None
    llm: LlmRequest | None = None
    caps: StreamCaps | None = None
    hide_usage: bool = False

    @property
    def metered(self) -> bool:
        """Whether the response has to be read."""
        return self.family is not None and self.caps is not None

    def streams(self, content_type: str) -> bool:
        """Return whether a response is a stream (§11.3)."""
        return is_stream(self.llm or LlmRequest(), self.path, self.accept, content_type)


class ProxyExchange:
    """One exchange. Every method is an event and returns what to do."""

    __slots__ = ("_asked", "_chunked", "_decision", "_family", "_meter", "_sent", "_status", "_tee",
                 "_tee_bytes", "_unsettled", "state")  # fmt: skip

    def __init__(self, family: Family | None) -> None:
        self._family = family
        self.state: State = "deciding"
        self._unsettled = False
        self._sent = False
        self._chunked = False
        self._status = 0
        self._meter: StreamMeter | None = None
        self._tee: list[bytes] | None = None
        self._tee_bytes = 0

    # events

    def decided(self, decision: Decision, asked: Asked) -> Actions:
        """Refuse, delay, or pass on."""
        gone = self.state == "done"
        self._decision = decision
        self._asked = asked
        if decision.action == "reject":
            self.state = "done"
            return [] if gone else [actions.Respond(*refusal(decision, self._family))]
        self._unsettled = bool(decision.reservation)
        if gone:
            return self._settle(None)
        if decision.delay_ms:
            self.state = "delayed"
            return [actions.Wait(decision.delay_ms / 1000)]
        self.state = "asking"
        return [actions.Forward()]

    def delay_over(self) -> Actions:
        """Pass on after a throttle's delay."""
        if self.state != "delayed":
            return []
        self.state = "asking"
        return [actions.Forward()]

    def upstream_sent(self) -> None:
        """Note that the upstream may be working from now on."""
        self._sent = True

    def upstream_head(self, head: ResponseHead) -> Actions:
        """Begin the client's answer."""
        self.state = "relaying"
        asked = self._asked
        self._status = head.status
        body = has_body(head.status, asked.method)
        if body and asked.metered:
            self._watch(head)
        if not body or (head.length is not None and self._meter is None):
            framing = b""
            if head.length is not None and head.status != 204:  # noqa: PLR2004 - RFC 9110 §8.6
                framing = b"Content-Length: %d\r\n" % head.length
            return [actions.Open(response_head(head, self._decision, framing))]
        self._chunked = asked.modern
        framing = _CHUNKED if self._chunked else b""
        opened = response_head(head, self._decision, framing)
        return [actions.Open(opened, close=not self._chunked)]

    def upstream_data(self, data: bytes) -> Actions:
        """Pass a piece on, as far as it may pass."""
        if self.state != "relaying":
            return []
        meter = self._meter
        if meter is None:
            self._keep(data)
            return self._send(data)
        passed = meter.feed(data)
        if meter.truncated:
            self.state = "done"
            return [
                *self._settle(meter.usage()),
                *self._send(passed),
                *self._end(),
                actions.CloseUpstream(),
            ]
        return self._send(passed)

    def upstream_end(self) -> Actions:
        """End the client's answer and settle by what the response said."""
        if self.state != "relaying":
            return []
        self.state = "done"
        if self._meter is not None:
            tail = self._send(self._meter.end())
            return [*self._settle(self._meter.usage()), *tail, *self._end()]
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
        if self._meter is not None:
            tail = self._send(self._meter.end())
            return [*self._settle(self._meter.usage()), *tail, actions.Abort()]
        return [*self._leave("response broke off"), actions.Abort()]

    def client_gone(self) -> Actions:
        """Stop the upstream and settle what was produced."""
        state, self.state = self.state, "done"
        if state in {"deciding", "done"}:
            return []  # nothing is charged yet, or all is settled
        if state == "delayed" or not self._sent:
            return [actions.CloseUpstream(), *self._settle(None)]
        if self._meter is not None:
            usage: Usage = self._meter.usage()
        elif state == "asking" and self._asked.metered and self._asked.streams(""):
            prompt = self._asked.caps.prompt if self._asked.caps else 0
            usage = Usage(prompt, 0, prompt)
        elif self._status >= _FIRST_ERROR:
            return [actions.CloseUpstream(), *self._settle(None)]
        else:
            return [actions.CloseUpstream(), *self._leave("client gone before a whole response")]
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
            return  # asked for none; unread, the reservation stays charged
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
        self._meter = StreamMeter(
            family,
            prompt_tokens=caps.prompt,
            cut=caps.cut,
            shadow=caps.shadow,
            hide_usage=asked.hide_usage,
            framing=framing,
            count=caps.count,
        )

    def _keep(self, data: bytes) -> None:
        if self._tee is None:
            return
        self._tee_bytes += len(data)
        if self._tee_bytes > MAX_PARSEABLE_BODY_BYTES:
            self._tee = None
        else:
            self._tee.append(data)

    def _settle_response(self) -> Actions:
        family = self._family
        found = (
            extract(family, b"".join(self._tee))
            if self._tee is not None and family is not None
            else "body_too_large"
        )
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

    def _leave(self, why: str) -> Actions:
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
