"""The dialect of Envoy's `ratelimit` service: `envoy.service.ratelimit.v3`'s `ShouldRateLimit`.

Theory
- A question holds descriptors, each a list of entries (key, value). Each descriptor becomes one
  request, is decided by itself, and gets a status of its own. All are charged, or none is.
- A descriptor with an entry `path` is **a request**: path, method, host, client address come from
  entries of these names, all others are its headers. Policies see what they would see over HTTP.
- Any other descriptor is **a shape**: its path is `/DOMAIN/KEY/KEY…`, its entries are headers. So a
  selector picks descriptors as the tree of keys does in the configuration of envoyproxy/ratelimit,
  and a rule's `limit_keys` and `match` name the values.
- `hits_addend` is the header `hits-addend`, which a rule takes for its cost with
  `cost_source: header:hits-addend`. None is 1; an explicit 0 asks without charging anything.
- An answer can only say "over the limit", and Envoy makes 429 of it. Another status is in
  `X-Fairvisor-Status`, from which Envoy's `local_reply_config` makes what the client gets.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest, RateLimitResponse

from adapters.envoy.check import TOO_LARGE, TOO_LARGE_BODY, add_hop
from protocol.decision import Decision
from protocol.fields import decision_fields
from protocol.request import Request

SERVICE: Final = "envoy.service.ratelimit.v3.RateLimitService"
METHOD: Final = "ShouldRateLimit"

MAX_DESCRIPTORS: Final = 64
MAX_ENTRIES: Final = 64
"""Entries of one descriptor."""

_PATH = frozenset({"path", ":path"})
_METHOD = frozenset({"method", ":method"})
_HOST = frozenset({"host", "authority", ":authority"})
_ADDRESS = "remote_address"
_HITS = b"hits-addend"
_NOT_IN_NAMES = re.compile(r"[^a-z0-9-]")
_TOO_MANY_REQUESTS = 429
_RESERVATION = "X-Fairvisor-Reservation"
_DAY = 86_400
_LIMIT = RateLimitResponse.RateLimit
_UNITS = {
    1: _LIMIT.SECOND,
    60: _LIMIT.MINUTE,
    3600: _LIMIT.HOUR,
    _DAY: _LIMIT.DAY,
    7 * _DAY: _LIMIT.WEEK,
    **dict.fromkeys((days * _DAY for days in (28, 29, 30, 31)), _LIMIT.MONTH),
}


class UnreadableError(ValueError):
    """A question that cannot be answered; the message says why."""


class TooLargeError(ValueError):
    """A descriptor that is larger than a request's head may be: refused, whoever sent it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One descriptor as a request; `charges` is False if it only wants to know."""

    request: Request
    charges: bool


def read(asked: RateLimitRequest, peer: str, *, trusted: bool, max_head: int) -> list[Asked]:
    """Return one request for each descriptor, in their order.

    `peer` and `trusted` are as in `check.read`; `max_head` is in bytes, of one descriptor.

    Raises:
        UnreadableError: no domain, no descriptor or entry, or too many of them.
        TooLargeError: what entries say is longer than that.
    """
    if not asked.domain:
        raise UnreadableError("no domain")
    if not 0 < len(asked.descriptors) <= MAX_DESCRIPTORS:
        raise UnreadableError(f"needs 1 to {MAX_DESCRIPTORS} descriptors")
    found = []
    for each in asked.descriptors:
        if not 0 < len(each.entries) <= MAX_ENTRIES:
            raise UnreadableError(f"a descriptor needs 1 to {MAX_ENTRIES} entries")
        entries = [(entry.key, entry.value) for entry in each.entries]
        if sum(len(key) + len(value) + 4 for key, value in entries) > max_head - len(asked.domain):
            raise TooLargeError
        own = each.hits_addend.value if each.HasField("hits_addend") else None
        hits = asked.hits_addend or 1 if own is None else own
        request = _request(asked.domain, entries, hits or 1, peer, trusted=trusted)
        found.append(Asked(request, hits > 0))
    return found


def write(decisions: Sequence[Decision], *, delay_header: bool = False) -> RateLimitResponse:
    """Return the answer to the descriptors that were decided so, one or more, in their order.

    With `delay_header` a throttle is left to the caller, who finds in the fields for the service
    how long to wait (§5.4).
    """
    answer = RateLimitResponse()
    for decision in decisions:
        _add_status(answer, decision)
    main = _main(decisions)
    refused = main.action == "reject"
    answer.overall_code = RateLimitResponse.OVER_LIMIT if refused else RateLimitResponse.OK
    told = [field for field in decision_fields(main) if field[0] != _RESERVATION]
    if refused:
        answer.raw_body = b'{"error":"%s"}' % main.reason.encode()
        told.append(("Content-Type", "application/json"))
        if main.status != _TOO_MANY_REQUESTS:
            told.append(("X-Fairvisor-Status", str(main.status)))
    for name, value in told:
        answer.response_headers_to_add.add(key=name, value=value)
    if refused:
        return answer
    for decision in decisions:
        if decision.reservation:
            answer.request_headers_to_add.add(key=_RESERVATION, value=decision.reservation)
    delay = max(decision.delay_ms for decision in decisions)
    if delay and delay_header:
        answer.request_headers_to_add.add(key="X-Fairvisor-Delay-Ms", value=str(delay))
    return answer


def write_too_large() -> RateLimitResponse:
    """Return the refusal of a descriptor that is too large."""
    answer = RateLimitResponse(overall_code=RateLimitResponse.OVER_LIMIT)
    answer.raw_body = TOO_LARGE_BODY.encode()
    answer.response_headers_to_add.add(key="Content-Type", value="application/json")
    answer.response_headers_to_add.add(key="X-Fairvisor-Status", value=str(TOO_LARGE))
    return answer


def _request(
    domain: str, entries: Sequence[tuple[str, str]], hits: int, peer: str, *, trusted: bool
) -> Request:
    headers: dict[bytes, bytes] = {}
    target: str | None = None
    method, host, address = "GET", domain, ""
    for key, value in reversed(entries):  # the first of equal ones counts
        name = key.lower()
        if name in _PATH:
            target = value
        elif name in _METHOD:
            method = value
        elif name in _HOST:
            host = value
        elif name == _ADDRESS:
            address = value
        headers[_NOT_IN_NAMES.sub("-", name).encode()] = value.encode()
    headers[_HITS] = str(hits).encode()
    add_hop(headers, address)
    if target is None:
        target = "/".join(("", *(quote(each, safe="") for each in (domain, *dict(entries)))))
    path, _, query = target.partition("?")
    return Request(
        method=method,
        path=path,
        headers=headers,
        query=query,
        host=host,
        peer="" if trusted else peer,
        trusted=trusted,
    )


def _main(decisions: Sequence[Decision]) -> Decision:
    """Return what the client is told of: the first refusal, else the tightest limit (§8.2)."""
    refused = next((each for each in decisions if each.action == "reject"), None)
    if refused is not None:
        return refused

    def room(decision: Decision) -> float:
        limit = decision.fields
        return limit.remaining / max(limit.quota, 1) if limit else float("inf")

    return min(decisions, key=room)


def _add_status(answer: RateLimitResponse, decision: Decision) -> None:
    refused = decision.action == "reject"
    status = answer.statuses.add(
        code=RateLimitResponse.OVER_LIMIT if refused else RateLimitResponse.OK
    )
    limit = decision.fields
    if limit is None:
        return
    status.current_limit.name = limit.policy_id
    status.current_limit.requests_per_unit = min(limit.quota, _LARGEST)
    status.current_limit.unit = _UNITS.get(limit.window, _LIMIT.UNKNOWN)
    status.limit_remaining = min(limit.remaining, _LARGEST)
    status.duration_until_reset.seconds = limit.reset


_LARGEST = 0xFFFF_FFFF
