"""Fairvisor as an Amazon API Gateway Lambda authorizer, for Python 3.11 and later.

REST APIs (REQUEST type) and HTTP APIs, payload versions 1.0 and 2.0. Environment: `FAIRVISOR_URL`
(required), `FAIRVISOR_ON_FAILURE` (closed, open, reads-open), `FAIRVISOR_TIMEOUT_MS` (500),
`FAIRVISOR_LONGEST_DELAY_MS` (5000), `FAIRVISOR_RESPONSE` (iam; without it: iam for payload 1.0,
simple for 2.0, as the API's authorizer is set up).

This file is uploaded to Lambda by itself; it needs nothing but Python.
"""

import logging
import os
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

Event = dict[str, Any]

READS = {"GET", "HEAD", "OPTIONS"}

UNREADABLE = {400, 413, 414, 417, 431}
"""The daemon could not read what the client sent: the client's fault, no way around a limit."""

REFUSALS = {401, 429}
"""Refusals even without a reason."""

OWN = {
    "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect",
    "forwarded", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "via", "x-asn", "x-asn-type", "x-country-code",
    "x-token-estimate", "x-tor-exit",
}  # fmt: skip
"""Of one connection only, about a body that is not here, or what only a gateway may say."""

OWN_PREFIXES = ("x-fairvisor-", "x-forwarded-", "x-original-")


class UndecidedError(Exception):
    """There is no decision; the message says why."""


def handler(event: Event, _context: object) -> dict[str, Any]:
    """Return whether API Gateway may go on, in the form that the authorizer is set up for.

    Raises:
        ValueError: the authorizer is not of type REQUEST.
    """
    if event.get("type") != "REQUEST":
        raise ValueError("the authorizer's type must be REQUEST: a token alone says too little")
    headers = question_headers(event)
    try:
        status, answer = _ask(headers)
    except UndecidedError as error:
        logging.getLogger(__name__).error("Fairvisor did not decide: %s", error)  # noqa: TRY400 - a line, no traceback
        passes = _passes_undecided(headers["x-original-method"])
        reason = {"fairvisor_reason": "service_unavailable", "retry_after": "1"}
        return _outcome(event, {} if passes else reason, allowed=passes)
    limits = {
        f"ratelimit_{name}": answer[f"ratelimit-{name}"]
        for name in ("limit", "remaining", "reset")
        if f"ratelimit-{name}" in answer
    }
    if status != 200:  # noqa: PLR2004 - allowed
        reason = {
            "fairvisor_reason": answer.get("x-fairvisor-reason", "rate_limited"),
            "retry_after": answer.get("retry-after", "1"),
        }
        return _outcome(event, {**reason, **limits}, allowed=False)
    longest = int(os.environ.get("FAIRVISOR_LONGEST_DELAY_MS", "5000"))
    time.sleep(min(int(answer.get("x-fairvisor-delay-ms", "0")), longest) / 1000)
    return _outcome(event, limits, allowed=True)


def question_headers(event: Event) -> dict[str, str]:
    """Return what the client sent, less what only a gateway may say, and what the event says."""
    context = event["requestContext"]
    http = context.get("http") or {}
    sent = event.get("headers") or {}
    names = {name.lower() for name in sent}
    headers = {}
    for raw, value in sent.items():
        # The daemon reads "_" in a header's name as "-", and so does this.
        name = raw.lower().replace("_", "-")
        if name in OWN or name.startswith(OWN_PREFIXES) or ("_" in raw and name in names):
            continue
        headers[name] = value
    if event.get("cookies"):
        headers["cookie"] = "; ".join(event["cookies"])
    headers |= {
        "x-original-method": http.get("method") or event["httpMethod"],
        "x-original-uri": original_uri(event),
        "x-original-host": context.get("domainName") or "",
        "x-forwarded-for": http.get("sourceIp") or context["identity"]["sourceIp"],
        "x-fairvisor-prefer": "delay-header",
    }
    return headers


def original_uri(event: Event) -> str:
    """Return path and query as the client sent them, as far as the event still knows."""
    if event.get("version") == "2.0":
        path: str = event["rawPath"]
        stage = f"/{event['requestContext']['stage']}"
        if path.startswith(f"{stage}/"):
            path = path.removeprefix(stage)
        query = event.get("rawQueryString")
        return f"{path}?{query}" if query else path
    parameters = (
        event.get("multiValueQueryStringParameters") or event.get("queryStringParameters") or {}
    )
    pairs = [
        f"{quote(name, safe='')}={quote(value, safe='')}"
        for name, values in parameters.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    return f"{event['path']}?{'&'.join(pairs)}" if pairs else str(event["path"])


def _passes_undecided(method: str) -> bool:
    way = os.environ.get("FAIRVISOR_ON_FAILURE", "closed")
    return way == "open" or (way == "reads-open" and method in READS)


def _outcome(event: Event, context: dict[str, str], *, allowed: bool) -> dict[str, Any]:
    form = os.environ.get("FAIRVISOR_RESPONSE")
    if form is None:
        form = "simple" if event.get("version") == "2.0" else "iam"
    if form == "simple":
        return {"isAuthorized": allowed, "context": context}
    statement = {
        "Action": "execute-api:Invoke",
        "Effect": "Allow" if allowed else "Deny",
        "Resource": event.get("methodArn") or event["routeArn"],
    }
    return {
        "principalId": "fairvisor",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": context,
    }


def _ask(headers: dict[str, str]) -> tuple[int, dict[str, str]]:
    """Return status and header fields (names in lower case) of the daemon's answer.

    Raises:
        UndecidedError: no answer in time, or not a decision.
    """
    url = urlsplit(os.environ["FAIRVISOR_URL"])
    seconds = int(os.environ.get("FAIRVISOR_TIMEOUT_MS", "500")) / 1000
    connect = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = connect(url.hostname or "", url.port, timeout=seconds)
    try:
        encoded = {name: value.encode("utf-8") for name, value in headers.items()}
        connection.request("GET", "/v1/decision", headers=encoded)
        answer: HTTPResponse = connection.getresponse()
        answer.read()
    except ValueError:
        return 400, {}  # a header that cannot be sent: the client's fault
    except (OSError, HTTPException) as error:
        raise UndecidedError(f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()
    found = {name.lower(): value for name, value in answer.getheaders()}
    status = answer.status
    if "x-fairvisor-reason" not in found and status not in {200} | REFUSALS | UNREADABLE:
        raise UndecidedError(f"it answered {status}")
    return status, found
