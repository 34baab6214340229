"""Check around a run that the daemon really decided what it was asked."""

import http.client
import re
from collections.abc import Mapping
from dataclasses import dataclass

from bench.scenarios import PLENTY, REFILL, Refusal, Variant
from bench.servers import Server


class ProbeError(Exception):
    """The daemon did not decide as its bundle says; figures taken from it would be worthless."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision as a gateway sees it."""

    status: int
    reason: str
    limit: int
    remaining: int


def ask(server: Server, headers: Mapping[str, str]) -> Answer:
    """Ask for one decision."""
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        link.request("GET", "/v1/decision", headers=dict(headers))
        answer = link.getresponse()
        return Answer(
            status=answer.status,
            reason=answer.getheader("X-Fairvisor-Reason", ""),
            limit=int(answer.getheader("RateLimit-Limit", "-1")),
            remaining=int(answer.getheader("RateLimit-Remaining", "-1")),
        )
    finally:
        link.close()


def require_refusals(server: Server, refusals: tuple[Refusal, ...]) -> None:
    """Require that each of `refusals` is refused as it says.

    Raises:
        ProbeError: one was not.

    """
    for refusal in refusals:
        for _ in range(refusal.within):
            answer = ask(server, refusal.headers)
            if answer.status != http.HTTPStatus.OK:
                break
        if (answer.status, answer.reason) != (refusal.status, refusal.reason):
            raise ProbeError(f"expected {refusal.status} {refusal.reason}, got {answer}")


def remaining(server: Server, variant: Variant, key: int, serial: int) -> int:
    """Return what is left of a counter of the load, after a request of its own.

    Raises:
        ProbeError: the request was not allowed by a limiter of the loaded path.

    """
    fills = {"key": key, "serial": serial}
    headers = {
        name: re.sub(r"{(\w+)}", lambda found: str(fills[found[1]]), value)
        for name, value in variant.requests.headers.items()
    }
    answer = ask(server, headers)
    if answer.status != http.HTTPStatus.OK or answer.limit != PLENTY:
        raise ProbeError(f"the load would not be limited: {answer}")
    return answer.remaining


def refill(seconds: float) -> int:
    """Return how many whole tokens a bucket of the load gets back in `seconds`."""
    return int(seconds * REFILL)


def require_charges(spent: int, requests: int, cut_off: int, seconds: float) -> None:
    """Require that `requests` answered requests of one key took `spent` tokens off its counter.

    At most `cut_off` requests were under way when runs ended: charged, but not counted. In
    `seconds` the bucket got a little back.

    Raises:
        ProbeError: requests were allowed without a charge, or charged twice.

    """
    if not requests - refill(seconds) <= spent <= requests + cut_off:
        raise ProbeError(f"{requests} requests took {spent} tokens")
