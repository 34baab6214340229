"""The dialect of Envoy's HTTP `ext_authz`, asked at `/v1/envoy/decision` (behaviour §7.3, §20).

Envoy takes every 5xx for a service that failed, and then lets pass what it should refuse if
`failure_mode_allow` is on (envoyproxy.io, `ext_authz` filter, `HttpService`). So a refusal with 503
is 403 here, and the status that the client should get is in `X-Fairvisor-Status`.
"""

from collections.abc import Mapping

from adapters import native
from protocol.decision import Decision
from protocol.request import Request

PREFIX = b"/v1/envoy/decision"

_SERVER_ERROR = 500


def read(  # noqa: PLR0913 - the parts of an HTTP request
    method: str,
    target: bytes,
    headers: Mapping[bytes, bytes],
    body: bytes,
    peer: str,
    *,
    trusted: bool,
) -> Request:
    """Return the request that Envoy asks about: its own method, its path below this dialect's."""
    return native.read(method, target, headers, body, peer, trusted=trusted, prefix=len(PREFIX))


def write(decision: Decision, *, delay_header: bool = False) -> tuple[bytes, bytes]:
    """Return the answer's head and body: as in the native dialect, but no status above 499."""
    head, body = native.write(decision, delay_header=delay_header)
    if decision.status < _SERVER_ERROR:
        return head, body
    fields = head.partition(b"\r\n")[2]
    return b"HTTP/1.1 403 Forbidden\r\nX-Fairvisor-Status: %d\r\n" % decision.status + fields, body
