"""Headers on their way upstream (behaviour §10.1, §10.2).

What becomes of a header follows from its name, so it is worked out once for each name that comes.

Headers called `X-Fairvisor-…` are between the client and the daemon and stay here: the secret of
debug sessions is one.

The order matters: connection-level headers of the client go first, so that a client cannot name an
injected header in `Connection` and have it dropped; then what the operator strips; then what the
operator sets, replacing whatever the client sent under that name.

Names compare without case and with "_" equal to "-" (§4.1): CGI-like backends cannot tell them
apart, so a client's `X_Api_Key` must not slip past a rule for `X-Api-Key`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

Headers = list[tuple[bytes, bytes]]

INJECT_PREFIX: Final = "FAIRVISOR_UPSTREAM_HEADER_"

HOP_BY_HOP: Final = frozenset(
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
"""Headers of one connection: RFC 9110 §7.6.1, and what RFC 2616 §13.5.1 named before it."""
KEPT_BACK: Final = HOP_BY_HOP | {b"content-length", b"expect", b"x-fairvisor-reservation"}
"""Headers of a response, in lower case, that are not passed on: the framing is said anew."""
# A client that names these in `Connection` is after our framing, routing or records.
_NEVER_DROPPED: Final = frozenset({b"host", b"content-length", b"x-forwarded-for"})
_FORWARDED_FOR: Final = b"x-forwarded-for"
_HOST: Final = b"host"
_CONNECTION: Final = b"connection"
_OURS: Final = b"x-fairvisor-"
NAMES_NOTHING: Final = frozenset({b"keep-alive", b"close", b""})
"""Values of `Connection`, in lower case, that name no header."""

_PASS: Final = b"pass"
_DROP: Final = b"drop"
_MAX_FATES: Final = 4096
"""Names that are remembered: clients choose them."""


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


def without_hop_by_hop(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """Remove the headers that belong to the client's connection (RFC 9110 §7.6.1)."""
    named = _named_by_connection(headers)
    gone = HOP_BY_HOP.union(named) - _NEVER_DROPPED if named else HOP_BY_HOP
    return [header for header in headers if header[0].lower() not in gone]


def _named_by_connection(headers: Sequence[tuple[bytes, bytes]]) -> Iterable[bytes]:
    return [
        option.strip().lower()
        for name, value in headers
        if name.lower() == _CONNECTION
        for option in value.split(b",")
    ]


class UpstreamHeaders:
    """Turns a client's headers into those for an upstream.

    `strip` holds canonical names that do not go up, `inject` what the operator sets, replacing
    whatever the client sent under that name; both are final. `gone` holds canonical names that
    nobody may send, not even the operator, because the daemon says them itself.
    """

    __slots__ = ("_fates", "_forwards", "_gone", "_injected", "_names")

    def __init__(
        self, strip: frozenset[bytes], inject: Headers, gone: frozenset[bytes] = frozenset()
    ) -> None:
        set_here = [header for header in inject if canonical(header[0]) not in gone]
        self._names = frozenset(canonical(name) for name, _ in inject)
        self._gone = strip | self._names | gone
        self._forwards = _FORWARDED_FOR not in self._gone
        self._injected = b"".join(_line(*header) for header in set_here)
        self._fates: dict[bytes, bytes] = {}

    def lines(
        self,
        headers: Sequence[tuple[bytes, bytes]],
        *,
        host: bytes,
        peer: str,
        key: Sequence[tuple[bytes, bytes]] = (),
    ) -> bytes:
        """Return the header lines: `host` is the backend's, `peer` the client's socket.

        `peer` ("" is a Unix socket) is appended to `X-Forwarded-For`, whose lines are joined. `key`
        is set unless the operator sets it.
        """
        fates = self._fates
        lines = [b"Host: %b\r\n" % host]
        hops: list[bytes] = []
        for name, value in headers:
            fate = fates.get(name) or self._fate(name)
            if fate is _PASS:
                lines.append(b"%b: %b\r\n" % (name, value))
            elif fate is _FORWARDED_FOR:
                hops.append(value)
            elif fate is _CONNECTION and value.lower() not in NAMES_NOTHING:
                rest = without_hop_by_hop(headers)
                return self.lines(rest, host=host, peer=peer, key=key)
        if peer:
            hops.append(peer.encode())
        if hops and self._forwards:
            lines.append(b"X-Forwarded-For: %b\r\n" % b", ".join(hops))
        lines += [_line(*header) for header in key if canonical(header[0]) not in self._names]
        lines.append(self._injected)
        return b"".join(lines)

    def _fate(self, name: bytes) -> bytes:
        lower = name.lower()
        fate = _PASS
        if lower == _FORWARDED_FOR:
            fate = _FORWARDED_FOR
        elif lower == _CONNECTION:
            fate = _CONNECTION
        elif lower == _HOST or lower in HOP_BY_HOP or self._stays(canonical(name)):
            fate = _DROP
        if len(self._fates) < _MAX_FATES:
            self._fates[name] = fate
        return fate

    def _stays(self, name: bytes) -> bool:
        return name in self._gone or name.startswith(_OURS)


def _line(name: bytes, value: bytes) -> bytes:
    return b"%b: %b\r\n" % (name, value)
