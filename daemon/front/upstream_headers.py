"""Headers on their way upstream (behaviour §10.1, §10.2), as lists of (name, value).

The order matters: connection-level headers of the client go first, so that a client cannot name an
injected header in `Connection` and have it dropped; then what the operator strips; then what the
operator sets, replacing whatever the client sent under that name.

Names compare without case and with "_" equal to "-" (§4.1): CGI-like backends cannot tell them
apart, so a client's `X_Api_Key` must not slip past a rule for `X-Api-Key`.
"""

from collections.abc import Iterable, Mapping
from typing import Final

Headers = list[tuple[bytes, bytes]]

INJECT_PREFIX: Final = "FAIRVISOR_UPSTREAM_HEADER_"

# RFC 9110 §7.6.1, and what RFC 2616 §13.5.1 named before it.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# A client that names these in `Connection` is after our framing, routing or records.
_NEVER_DROPPED: Final = frozenset({b"host", b"content-length", b"x-forwarded-for"})
_FORWARDED_FOR: Final = b"x-forwarded-for"
_HOST: Final = b"host"


def canonical(name: bytes) -> bytes:
    """Return a header name in the form names are compared in."""
    return name.lower().replace(b"_", b"-")


def parse_strip_list(text: str) -> frozenset[bytes]:
    """Read `FAIRVISOR_STRIP_REQUEST_HEADERS`: canonical names from a comma list."""
    names = (name.strip() for name in text.split(","))
    return frozenset(canonical(name.encode()) for name in names if name)


def injected_headers(environ: Mapping[str, str]) -> Headers:
    """Collect `FAIRVISOR_UPSTREAM_HEADER_<Name>` variables; "_" in a name becomes "-".

    Raises:
        ValueError: naming the variable, for a name or value that no header can have.
    """
    headers: Headers = []
    for variable, value in sorted(environ.items()):
        if not variable.startswith(INJECT_PREFIX):
            continue
        name = variable.removeprefix(INJECT_PREFIX).replace("_", "-")
        if not name.replace("-", "").isalnum() or not name.isascii():
            raise ValueError(f"{variable}: '{name}' is not a header name")
        if not value.isprintable():
            # Without the value: it is most likely a key.
            raise ValueError(f"{variable}: the value has characters that no header may hold")
        headers.append((name.encode(), value.encode()))
    return headers


def strip_and_inject(headers: Headers, strip: frozenset[bytes], inject: Headers) -> Headers:
    """Remove what the operator strips, then set what the operator sets (§10.2).

    `strip` holds canonical names. The order of the headers that stay is kept.
    """
    gone = strip.union(canonical(name) for name, _ in inject)
    return [header for header in headers if canonical(header[0]) not in gone] + inject


def without_hop_by_hop(headers: Headers) -> Headers:
    """Remove the headers that belong to the client's connection (RFC 9110 §7.6.1)."""
    named = _named_by_connection(headers)
    gone = _HOP_BY_HOP.union(named) - _NEVER_DROPPED if named else _HOP_BY_HOP
    return [header for header in headers if header[0].lower() not in gone]


def _named_by_connection(headers: Headers) -> Iterable[bytes]:
    return [
        option.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for option in value.split(b",")
    ]


def extend_forwarded_for(headers: Headers, peer: str) -> Headers:
    """Append the socket peer to `X-Forwarded-For`, joining its lines; "" is a Unix socket."""
    hops = [value for name, value in headers if name.lower() == _FORWARDED_FOR]
    if peer:
        hops.append(peer.encode())
    rest = [header for header in headers if header[0].lower() != _FORWARDED_FOR]
    return [*rest, (b"X-Forwarded-For", b", ".join(hops))] if hops else rest


def upstream_headers(
    headers: Headers, *, host: bytes, peer: str, strip: frozenset[bytes], inject: Headers
) -> Headers:
    """Return the headers to send upstream: `host` is the backend's, `peer` the client's socket.

    What the operator strips or sets is final: it is applied after `Host` and `X-Forwarded-For`.
    """
    kept = [header for header in without_hop_by_hop(headers) if header[0].lower() != _HOST]
    forwarded = extend_forwarded_for(kept, peer)
    return [(b"Host", host), *strip_and_inject(forwarded, strip, inject)]
