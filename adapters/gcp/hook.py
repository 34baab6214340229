"""Fairvisor for services behind ESPv2, API Gateway or Cloud Run: a WSGI hook before the app.

`app = Fairvisor(app)`. Environment: `FAIRVISOR_URL` (required), `FAIRVISOR_ON_FAILURE` (closed,
open, reads-open), `FAIRVISOR_TIMEOUT_MS` (500), `FAIRVISOR_PROXY_HOPS`: how many of Google's
proxies have added an address to `X-Forwarded-For`, 1 for Cloud Run alone, 2 with ESPv2 before it.

This file is copied into the service's image; it needs nothing but Python.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]
Fields = list[tuple[str, str]]

LONGEST_DELAY_MS = 30_000
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
"""Of one connection only, about a body that is not sent, or what only a gateway may say."""

OWN_PREFIXES = ("x-fairvisor-", "x-forwarded-", "x-original-")

FOR_THE_CLIENT = {
    "retry-after", "www-authenticate", "x-fairvisor-loop-count", "x-fairvisor-reason",
    "x-fairvisor-warning",
}  # fmt: skip


class UndecidedError(Exception):
    """There is no decision; the message says why."""


class Fairvisor:
    """A WSGI application that asks before it calls another."""

    def __init__(self, app: App) -> None:
        self._app = app

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request: the refusal, or what the app says with the limits added."""
        try:
            status, fields, body = _ask(question_headers(environ))
        except UndecidedError as error:
            logging.getLogger(__name__).error("Fairvisor did not decide: %s", error)  # noqa: TRY400 - a line, no traceback
            if _passes_undecided(environ["REQUEST_METHOD"]):
                return self._app(environ, start_response)
            fields = [("Retry-After", "1"), ("X-Fairvisor-Reason", "service_unavailable")]
            return _refuse(start_response, 503, fields, b'{"error":"service_unavailable"}')
        if status != 200:  # noqa: PLR2004 - allowed
            return _refuse(start_response, status, fields, body or b'{"error":"bad_request"}')
        delay = next((value for name, value in fields if name.lower() == DELAY), "0")
        time.sleep(min(int(delay), LONGEST_DELAY_MS) / 1000)
        ours = [(name, value) for name, value in fields if _for_the_client(name)]
        taken = {name.lower() for name, _ in ours}

        def start(code: str, headers: Fields, *more: object) -> object:
            kept = [(name, value) for name, value in headers if name.lower() not in taken]
            return start_response(code, kept + ours, *more)

        return self._app(environ, start)


DELAY = "x-fairvisor-delay-ms"


def question_headers(environ: Environ) -> dict[str, str]:
    """Return what the client sent, less what only a gateway may say, and what the server saw."""
    sent = {
        name.removeprefix("HTTP_").lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    headers = {
        name: value
        for name, value in sent.items()
        if name not in OWN and not name.startswith(OWN_PREFIXES)
    }
    # Where ESPv2 speaks for itself to the service, the client's own token is here.
    if "x-forwarded-authorization" in sent:
        headers["authorization"] = sent["x-forwarded-authorization"]
    headers |= {
        "x-original-method": environ["REQUEST_METHOD"],
        "x-original-uri": _uri(environ),
        "x-original-host": sent.get("host", ""),
        "x-forwarded-for": client_address(environ),
        "x-fairvisor-prefer": "delay-header",
    }
    return headers


def client_address(environ: Environ) -> str:
    """Return the address that the outermost of our own proxies saw."""
    hops = int(os.environ.get("FAIRVISOR_PROXY_HOPS", "1"))
    listed = [each.strip() for each in environ.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    found = listed[-hops] if 0 < hops <= len(listed) else ""
    return found or str(environ.get("REMOTE_ADDR", ""))


def _uri(environ: Environ) -> str:
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")  # gunicorn's, uWSGI's
    if raw:
        return str(raw)
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    query = environ.get("QUERY_STRING", "")
    encoded = quote(path.encode("latin-1"), safe="/:;=,@!$&'()*+~")
    return f"{encoded}?{query}" if query else encoded


def _for_the_client(name: str) -> bool:
    lowered = name.lower()
    return lowered in FOR_THE_CLIENT or lowered.startswith(("ratelimit", "x-fairvisor-debug-"))


def _passes_undecided(method: str) -> bool:
    way = os.environ.get("FAIRVISOR_ON_FAILURE", "closed")
    return way == "open" or (way == "reads-open" and method in READS)


def _refuse(
    start_response: StartResponse, status: int, fields: Fields, body: bytes
) -> Iterable[bytes]:
    kept = [(name, value) for name, value in fields if _for_the_client(name)]
    kept += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(f"{status} Refused", kept)
    return [body]


def _ask(headers: dict[str, str]) -> tuple[int, Fields, bytes]:
    """Return status, header fields and body of the daemon's answer.

    Raises:
        UndecidedError: no answer in time, or not a decision.
    """
    url = urlsplit(os.environ["FAIRVISOR_URL"])
    seconds = int(os.environ.get("FAIRVISOR_TIMEOUT_MS", "500")) / 1000
    connect = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = connect(url.hostname or "", url.port, timeout=seconds)
    try:
        connection.request("GET", "/v1/decision", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    except ValueError:
        return 400, [], b""  # a header that cannot be sent: the client's fault
    except (OSError, HTTPException) as error:
        raise UndecidedError(f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()
    status = answer.status
    reason = answer.getheader("X-Fairvisor-Reason")
    if reason is None and status not in {200} | REFUSALS | UNREADABLE:
        raise UndecidedError(f"it answered {status}")
    return status, answer.getheaders(), body
