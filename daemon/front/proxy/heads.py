"""Heads on both sides of the proxy: the request's for the upstream, the response's for the client.

Framing is never passed on: each side's length or chunks are said anew (RFC 9112 §6).
"""

from http import HTTPStatus

from daemon.engine.debug_session import COOKIE_NAME
from daemon.front.inbound import Inbound
from daemon.front.proxy.route import Route
from daemon.front.upstream_caller import ResponseHead
from daemon.front.upstream_headers import KEPT_BACK, Headers, UpstreamHeaders, without_hop_by_hop
from daemon.llm.errors import reject_body
from daemon.llm.providers import Family
from protocol.decision import Decision
from protocol.fields import decision_fields

_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"expect"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_HIDDEN = "X-Fairvisor-Reservation"
# OpenAI's SDK gives up by itself above this; Anthropic's would sleep until a budget's next period.
_LONGEST_SDK_WAIT = 120
_NO_BODY = frozenset({204, 304})
_OURS = b"x-fairvisor-"
_SESSION = COOKIE_NAME.encode()
_CODING = frozenset({b"content-encoding"})
_DROP = b"dropped"
_MAX_PASSING = 4096


class RequestHeads:
    """Writes the heads of requests to upstreams.

    `plain` asks for a body that is not compressed, because it will be read.
    """

    __slots__ = ("_headers", "_plain")

    def __init__(self, strip: frozenset[bytes], inject: Headers, *, plain: bool) -> None:
        gone = _FRAMING | {b"accept-encoding"} if plain else _FRAMING
        self._headers = UpstreamHeaders(strip, inject, gone)
        self._plain = b"Accept-Encoding: identity\r\n" if plain else b""

    def write(self, route: Route, inbound: Inbound, length: int) -> bytes:
        """Return a head, its empty line included.

        `length` is that of the body unless more of it follows.
        """
        return self.begin(route, inbound) + request_framing(inbound, length)

    def begin(self, route: Route, inbound: Inbound) -> bytes:
        """Return a head without what tells its body's length and the empty line."""
        raw = route.raw
        if b"cookie" in inbound.headers:
            raw = [header for each in raw if (header := _without_session(each)) is not None]
        return b"".join(
            (
                b"%b %b HTTP/1.1\r\n" % (inbound.method.encode("latin-1"), route.target),
                self._headers.lines(
                    raw,
                    host=route.upstream.authority.encode(),
                    peer=inbound.peer,
                    key=route.key,
                ),
                self._plain,
            )
        )


def _without_session(header: tuple[bytes, bytes]) -> tuple[bytes, bytes] | None:
    """Take the debug session's cookie, which is between the client and us, out of a header."""
    name, value = header
    if name.lower() != b"cookie" or _SESSION not in value:
        return header
    pairs = [pair for pair in value.split(b";") if pair.partition(b"=")[0].strip() != _SESSION]
    return (name, b";".join(pairs).strip()) if pairs else None


def request_framing(inbound: Inbound, length: int) -> bytes:
    """Return the end of a request's head: the field that tells its body's length, an empty line."""
    if inbound.unfinished:
        told = inbound.headers.get(b"content-length")
        if told:
            return b"Content-Length: %d\r\n\r\n" % int(told)
        return b"Transfer-Encoding: chunked\r\n\r\n"
    if length or inbound.method in _WITH_BODY or b"content-length" in inbound.headers:
        return b"Content-Length: %d\r\n\r\n" % length
    return b"\r\n"


def has_body(status: int, method: str) -> bool:
    """Return whether a response has a body (RFC 9112 §6.3)."""
    return method != "HEAD" and status not in _NO_BODY


def response_head(
    head: ResponseHead,
    decision: Decision,
    framing: bytes,
    debug: bytes = b"",
    *,
    decoded: bool = False,
) -> bytes:
    """Return the response's status line and fields for the client, without Connection.

    `framing` is the header line that says where the body ends, b"" for none; `debug` holds the
    lines of a debug session, in which nobody else's `X-Fairvisor-*` pass; `decoded` says that the
    body is passed on without its coding. The decision's fields replace the upstream's of the same
    name.
    """
    told = decision.fields or decision.warning or decision.loop_count or decision.action == "reject"
    said = [field for field in decision_fields(decision) if field[0] != _HIDDEN] if told else []
    gone = {name.lower().encode() for name, _ in said}
    if decoded:
        gone |= _CODING
    plain = head.plain
    if plain is not None and not debug:
        lines = [plain.start.line]
        for field in plain.fields:
            key = field.key
            if key not in KEPT_BACK and key not in gone:
                lines.append(field.line)
        lines += [f"{name}: {value}\r\n".encode() for name, value in said]
        lines.append(framing)
        return b"".join(lines)
    lines = [b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)]
    headers = head.headers if head.names_nothing else without_hop_by_hop(head.headers)
    for name, value in headers:
        lower = _passing.get(name) or _passes(name)
        if lower is not _DROP and lower not in gone and not (debug and lower.startswith(_OURS)):
            lines.append(b"%b: %b\r\n" % (name, value))
    lines += [f"{name}: {value}\r\n".encode() for name, value in said]
    lines += (debug, framing)
    return b"".join(lines)


_passing: dict[bytes, bytes] = {}
"""Names as upstreams send them, to lower case or `_DROP`: most send the same few. Bounded."""


def _passes(name: bytes) -> bytes:
    lower = name.lower()
    fate = _DROP if lower in KEPT_BACK else lower
    if len(_passing) < _MAX_PASSING:
        _passing[name] = fate
    return fate


def refusal(decision: Decision, family: Family | None, debug: bytes = b"") -> tuple[bytes, bytes]:
    """Return head and body of a reject, in the provider's shape if one is known (§10.6).

    A vendor's SDK is told not to wait for what takes long: its caller shall see the error.
    """
    fields = decision_fields(decision)
    retry_after = next((int(value) for name, value in fields if name == "Retry-After"), 0)
    if family is not None and retry_after > _LONGEST_SDK_WAIT:
        fields.append(("X-Should-Retry", "false"))
    head, body = _answer(decision.status, decision.reason, family, fields, retry_after)
    return head + debug, body


def failure(status: int, reason: str, family: Family | None) -> tuple[bytes, bytes]:
    """Return head and body for an upstream that gave no answer."""
    return _answer(status, reason, family, [("X-Fairvisor-Reason", reason)])


def _answer(
    status: int,
    reason: str,
    family: Family | None,
    fields: list[tuple[str, str]],
    retry_after: int = 0,
) -> tuple[bytes, bytes]:
    body = b'{"error":"%s"}' % reason.encode()
    if family is not None:
        body = reject_body(family, reason, status, retry_after)
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Rejected"
    lines = [f"HTTP/1.1 {status} {phrase}", "Content-Type: application/json"]
    lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in fields]
    return ("\r\n".join(lines) + "\r\n").encode(), body
