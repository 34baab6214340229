"""The daemon's own dialect: `/v1/decision` (behaviour §4.1, §7, §8).

Two pure functions: what came over HTTP to a `Request`, a `Decision` to status, fields and body.
"""

from collections.abc import Mapping

from protocol.decision import Decision, Limit
from protocol.fields import decision_fields, structured_string
from protocol.request import Request

PREFIX = b"/v1/decision"
_PREFIX_CHARS = len(PREFIX)

PHRASES = {
    200: "OK",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    429: "Too Many Requests",
    503: "Service Unavailable",
}

_ALLOW = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"


def read(  # noqa: PLR0913 - the parts of an HTTP request
    method: str,
    target: bytes,
    headers: Mapping[bytes, bytes],
    body: bytes,
    peer: str,
    *,
    trusted: bool,
    prefix: int = _PREFIX_CHARS,
) -> Request:
    """Return the request that a gateway asks about.

    The original method, URI and host come from `X-Original-*`, else `X-Forwarded-*`, else from
    this request itself; an untrusted peer's are ignored (§4.2). `headers` have canonical names.
    `prefix` is the length of the path that was asked; the rest is the original path (§7.1).
    """
    uri = host = None
    if trusted:
        uri = headers.get(b"x-original-uri") or headers.get(b"x-forwarded-uri")
        original = headers.get(b"x-original-method") or headers.get(b"x-forwarded-method")
        if original is not None:
            method = _METHODS.get(original) or original.decode("latin-1")
        host = headers.get(b"x-original-host") or headers.get(b"x-forwarded-host")
    if uri is None:
        uri = target[prefix:]
        if not uri.startswith(b"/"):
            uri = target
    elif not uri.startswith(b"/"):
        uri = origin_form(uri)
    if host is None:
        host = headers.get(b"host", b"")
    path, _, query = _text(uri).partition("?")
    return Request(
        method=method,
        path=path,
        headers=headers,
        query=query,
        host=_text(host),
        peer=peer,
        trusted=trusted,
        body=body,
    )


def write(decision: Decision, *, delay_header: bool = False) -> tuple[bytes, bytes]:
    """Return the answer's head (status line and fields, each ended by CRLF) and body.

    With `delay_header` a throttle is left to the caller, who is told how long to wait (§5.4).
    """
    if decision.action == "allow" and not decision.warning and not decision.reservation:
        return (_allow(decision.fields) if decision.fields else _ALLOW), b""
    status = decision.status
    lines = [f"HTTP/1.1 {status} {PHRASES.get(status, 'Rejected')}"]
    body = b""
    if decision.action == "reject":
        body = b'{"error":"%s"}' % decision.reason.encode()
        lines.append("Content-Type: application/json")
    elif delay_header and decision.delay_ms:
        lines.append(f"X-Fairvisor-Delay-Ms: {decision.delay_ms}")
    lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in decision_fields(decision)]
    lines.append("")
    return "\r\n".join(lines).encode(), body


def origin_form(uri: bytes) -> bytes:
    """Return the path and query of an absolute-form URI (RFC 9112 §3.2.2), or `uri` with a "/"."""
    scheme, separator, rest = uri.partition(b"://")
    if separator and scheme.isalpha():
        end = next((at for at, byte in enumerate(rest) if byte in b"/?#"), len(rest))
        path = rest[end:]
        return path if path.startswith(b"/") else b"/" + path
    return b"/" + uri


def _allow(limit: Limit) -> bytes:
    # The commonest answer there is: one format instead of a list of fields (a third of the time).
    name = structured_string(limit.policy_id)
    left, reset = limit.remaining, limit.reset
    return (
        f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nRateLimit-Limit: {limit.quota}\r\n"
        f"RateLimit-Remaining: {left}\r\nRateLimit-Reset: {reset}\r\n"
        f"RateLimit: {name};r={left};t={reset}\r\n"
        f"RateLimit-Policy: {name};q={limit.quota};w={limit.window}\r\n"
    ).encode()


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


_METHODS = {
    name.encode(): name
    for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
}
