"""The calls of the admin socket over HTTP (behaviour §17): a request in, one JSON answer out."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson

from daemon.front.answers import respond
from daemon.front.http1 import HttpConnection
from daemon.front.inbound import Inbound
from daemon.front.trace import place
from daemon.supervisor.admin.breakers import BreakerDesk, UnknownPolicyError
from daemon.supervisor.admin.questions import NoAnswerError
from daemon.supervisor.reload import Reloaded

log = logging.getLogger("fairvisor")

MAX_BODY_BYTES: Final = 64 << 10
MAX_CALLS: Final = 32
"""Calls under way: who hangs up does not take back what was asked, and may ask again."""


class ResetCall(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The body of a reset."""

    policy_id: str
    key: str | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, JSON document and further header lines."""

    status: int
    document: object
    fields: str = ""


_decode_reset = msgspec.json.Decoder(ResetCall).decode
Handler = Callable[[bytes], Coroutine[Any, Any, Answer]]


class AdminApi:
    """Who answers on the admin socket. `reload` reads the bundle file again."""

    verbatim = False

    def __init__(self, desk: BreakerDesk, reload: Callable[[], Awaitable[Reloaded]]) -> None:
        self._desk = desk
        self._reload = reload
        self._calls: set[asyncio.Task[None]] = set()
        self._routes: dict[bytes, tuple[tuple[str, ...], Handler]] = {
            b"/v1/admin/breaker/reset": (("POST",), self._reset),
            b"/v1/admin/breakers": (("GET", "HEAD"), self._breakers),
            b"/v1/admin/reload": (("POST",), self._read_again),
        }

    def handle(self, connection: HttpConnection, inbound: Inbound) -> None:
        """Answer one request."""
        route = self._routes.get(inbound.target.partition(b"?")[0])
        if route is None:
            paths = [path.decode() for path in self._routes]
            answer(connection, 404, {"error": "not_found", "try": paths})
            return
        methods, handler = route
        if inbound.method not in methods:
            allow = f"Allow: {', '.join(methods)}\r\n"
            answer(connection, 405, {"error": "method_not_allowed"}, allow)
        elif len(inbound.body) > MAX_BODY_BYTES:
            answer(connection, 400, _error("bad_request", f"body is over {MAX_BODY_BYTES} bytes"))
        elif len(self._calls) >= MAX_CALLS:
            answer(connection, 503, _error("busy", "too many calls at once"), _RETRY)
        else:
            call = self._answer(connection, handler(inbound.body))
            task = asyncio.get_running_loop().create_task(call)
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _answer(self, connection: HttpConnection, call: Coroutine[Any, Any, Answer]) -> None:
        try:
            found = await call
        except NoAnswerError as error:
            found = Answer(503, _error("shard_unavailable", str(error)), _RETRY)
        except Exception as error:  # noqa: BLE001 - one call must not take the supervisor with it
            # No text of the error: it may quote the request.
            log.error("an admin call failed with %s at %s", type(error).__name__, place(error))  # noqa: TRY400
            found = Answer(503, _error("failed", "see the daemon's log"))
        answer(connection, found.status, found.document, found.fields)

    async def _reset(self, body: bytes) -> Answer:
        try:
            call = _decode_reset(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            message = f'{error}; send {{"policy_id": "…"}} and, for one key only, "key": "…"'
            return Answer(400, _error("bad_request", message))
        key = None if call.key is msgspec.UNSET else call.key
        try:
            closed = await self._desk.reset(call.policy_id, key)
        except UnknownPolicyError:
            message = "the active bundle has no policy of this id"
            return Answer(404, _error("unknown_policy", message) | {"policy_id": call.policy_id})
        return Answer(200, {"reset": closed})

    async def _breakers(self, _body: bytes) -> Answer:
        rows, more = await self._desk.document()
        return Answer(200, rows, "X-Fairvisor-More: true\r\n" if more else "")

    async def _read_again(self, _body: bytes) -> Answer:
        found = await self._reload()
        if found.failure:
            return Answer(503, _error("reload_failed", found.failure) | {"version": found.version})
        if not found.problems:
            return Answer(
                200, {"version": found.version, "hash": found.hash, "applied": found.applied}
            )
        errors = [{"path": each.path, "message": each.message} for each in found.problems]
        rejected = {"error": "bundle_rejected", "errors": errors, "version": found.version}
        return Answer(409, rejected)


def answer(connection: HttpConnection, status: int, document: object, fields: str = "") -> None:
    """Answer with a JSON document and, for those who read it in a terminal, the line's end."""
    respond(connection, status, "application/json", orjson.dumps(document) + b"\n", fields)


_RETRY: Final = "Retry-After: 1\r\n"


def _error(error: str, message: str) -> dict[str, object]:
    return {"error": error, "message": message}
