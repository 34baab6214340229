"""The dialect of nginx's `auth_request`, asked at `/v1/nginx/decision` (behaviour §7.3, §20).

nginx lets an authorization answer say three things: 2xx, 401 and 403; everything else becomes 500
for the client (nginx.org, ngx_http_auth_request_module). So a refusal is 403 here, 401 stays 401,
and the status that the client should get is in `X-Fairvisor-Status`. nginx looks at no body, and
closes a connection whose body it has not read, so there is none: a flood of refusals keeps its
connections.
"""

from collections.abc import Mapping

from adapters import native
from protocol.decision import Decision
from protocol.fields import decision_fields
from protocol.request import Request

PREFIX = b"/v1/nginx/decision"

_UNAUTHORIZED = 401
_FORBIDDEN = 403


def read(  # noqa: PLR0913 - the parts of an HTTP request
    method: str,
    target: bytes,
    headers: Mapping[bytes, bytes],
    body: bytes,
    peer: str,
    *,
    trusted: bool,
) -> Request:
    """Return the request that nginx asks about: as `native.read`, below this dialect's path.

    A subrequest is always a GET, so that the configuration has to send `X-Original-Method`.
    """
    return native.read(method, target, headers, body, peer, trusted=trusted, prefix=len(PREFIX))


def write(decision: Decision, *, delay_header: bool = False) -> tuple[bytes, bytes]:
    """Return the answer's head, and no body. An allow is as in the native dialect."""
    if decision.action != "reject":
        return native.write(decision, delay_header=delay_header)
    status = _UNAUTHORIZED if decision.status == _UNAUTHORIZED else _FORBIDDEN
    lines = [
        f"HTTP/1.1 {status} {native.PHRASES[status]}",
        "Content-Length: 0",
        f"X-Fairvisor-Status: {decision.status}",
        *(f"{name}: {value}" for name, value in decision_fields(decision)),
        "",
    ]
    return "\r\n".join(lines).encode(), b""
