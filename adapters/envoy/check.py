"""The dialect of Envoy's gRPC `ext_authz`: `envoy.service.auth.v3.Authorization/Check`.

Who asks for what is in the attributes of the question (envoyproxy.io, `AttributeContext`), so that
no header can say otherwise. The one thing that both know is the client's address: Envoy's own
peer is the last hop, and `X-Forwarded-For` is read on from there only if that peer is a trusted
proxy (behaviour §4.2). Messages come from PyPI's `xds-protos`, an optional extra.
"""

from collections.abc import Iterable
from typing import Final

from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

from protocol.decision import Decision
from protocol.fields import decision_fields
from protocol.request import Request

SERVICE: Final = "envoy.service.auth.v3.Authorization"
METHOD: Final = "Check"

MAX_FIELDS: Final = 128
"""Header fields of one request, as over HTTP."""
TOO_LARGE: Final = 431
TOO_LARGE_BODY: Final = '{"error":"request head too large"}'

_FORWARDED_FOR = b"x-forwarded-for"
_RESERVATION = "X-Fairvisor-Reservation"
_CODES = {401: 16, 403: 7, 429: 8, 503: 14}
"""HTTP status to google.rpc.Code; Envoy looks at no more than that it is not 0."""
_INVALID_ARGUMENT = 3
_OVERWRITE = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def fits(check: CheckRequest, max_head: int) -> bool:
    """Return whether a request's head is within the bounds that hold over HTTP."""
    http = check.attributes.request.http
    fields = len(http.headers) + len(http.header_map.headers)
    size = len(http.method) + len(http.host) + len(http.path)
    size += sum(len(name) + len(value) + 4 for name, value in _fields(check))
    return fields <= MAX_FIELDS and size <= max_head


def read(check: CheckRequest, peer: str, *, trusted: bool, max_body: int) -> Request:
    """Return the request that Envoy asks about.

    `peer` is the address that the question came from, "" for a Unix socket; `trusted` says whether
    it may speak for others. Of a body, `max_body` bytes are looked at.
    """
    attributes = check.attributes
    http = attributes.request.http
    headers: dict[bytes, bytes] = {}
    underscored: list[tuple[bytes, bytes]] = []
    for name, value in _fields(check):
        if b"_" in name:
            underscored.append((name.replace(b"_", b"-"), value))
        elif name == _FORWARDED_FOR and name in headers:
            headers[name] += b", " + value
        else:
            headers.setdefault(name, value)
    for name, value in underscored:  # never beside or instead of the field that is spelled right
        headers.setdefault(name, value)
    add_hop(headers, attributes.source.address.socket_address.address)
    path, _, query = (http.path or "/").partition("?")
    body = http.raw_body or http.body.encode()
    return Request(
        method=http.method,
        path=path,
        headers=headers,
        query=query,
        host=http.host,
        peer="" if trusted else peer,
        trusted=trusted,
        body=body[:max_body],
    )


def write(decision: Decision, *, delay_header: bool = False) -> CheckResponse:
    """Return the answer: an allow with fields for client and service, or the whole refusal.

    With `delay_header` a throttle is left to the caller, who finds in the fields for the service
    how long to wait (§5.4).
    """
    if decision.action == "reject":
        body = f'{{"error":"{decision.reason}"}}'
        return _denied(decision.status, decision_fields(decision), body)
    answer = CheckResponse()
    allowed = answer.ok_response
    for name, value in decision_fields(decision):
        fields = allowed.headers if name == _RESERVATION else allowed.response_headers_to_add
        _add(fields, name, value)
    if delay_header and decision.delay_ms:
        _add(allowed.headers, "X-Fairvisor-Delay-Ms", str(decision.delay_ms))
    return answer


def write_unreadable() -> CheckResponse:
    """Return the refusal of a request whose head does not fit."""
    return _denied(TOO_LARGE, [], TOO_LARGE_BODY)


def add_hop(headers: dict[bytes, bytes], address: str) -> None:
    """Put who connected to Envoy behind all that `X-Forwarded-For` says; without it, drop that."""
    said = headers.pop(_FORWARDED_FOR, b"")
    if address:
        hop = address.encode()
        headers[_FORWARDED_FOR] = said + b", " + hop if said else hop


def _fields(check: CheckRequest) -> Iterable[tuple[bytes, bytes]]:
    """Return names in lower case and values; the pseudo fields of HTTP/2 are no headers.

    Which of the two forms Envoy fills in is its `encode_raw_headers`.
    """
    http = check.attributes.request.http
    for each in http.header_map.headers:
        if not each.key.startswith(":"):
            yield each.key.lower().encode(), each.raw_value or each.value.encode()
    for name, value in http.headers.items():
        if not name.startswith(":"):
            yield name.lower().encode(), value.encode()


def _denied(status: int, fields: list[tuple[str, str]], body: str) -> CheckResponse:
    answer = CheckResponse()
    answer.status.code = _CODES.get(status, _INVALID_ARGUMENT)
    denied = answer.denied_response
    denied.status.code = status
    denied.body = body
    _add(denied.headers, "Content-Type", "application/json")
    for name, value in fields:
        _add(denied.headers, name, value)
    return answer


def _add(fields: object, name: str, value: str) -> None:
    option = fields.add(append_action=_OVERWRITE)  # type: ignore[attr-defined]  # messages have no types
    option.header.key = name
    option.header.value = value
