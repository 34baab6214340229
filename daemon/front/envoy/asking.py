"""Envoy's questions over gRPC: asked of the shards as any other, answered in Envoy's messages.

Rules
- A call that its caller gives up waits no longer; what it was charged stays charged, as over HTTP.
- The descriptors of one `ShouldRateLimit` are decided side by side. If one is refused, what the
  others were charged is given back; so is what a descriptor with `hits_addend: 0` was asked for.
- Nothing that a question holds may end the front: what goes wrong is a refusal with 503.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import grpc
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest, RateLimitResponse
from google.protobuf.message import DecodeError

from adapters.envoy import check, ratelimit
from adapters.envoy.ratelimit import TooLargeError, UnreadableError
from daemon.engine.engine import UNAVAILABLE
from daemon.engine.evaluation import Evaluation
from daemon.front.app import App
from daemon.front.envoy.peer import peer_address
from daemon.front.exchange import Exchange
from daemon.front.inbound import Inbound
from daemon.front.surroundings import Bounds
from protocol.decision import Decision
from protocol.request import Request

Context = grpc.aio.ServicerContext[object, object]
Answer = TypeVar("Answer")

_PREFER = "x-fairvisor-prefer"
_DELAY_HEADER = "delay-header"


class Asking:
    """The two services. `trusts` says whether a peer's address may speak for others."""

    def __init__(self, app: App, bounds: Bounds, trusts: Callable[[str], bool]) -> None:
        self._app = app
        self._bounds = bounds
        self._trusts = trusts

    async def check(self, message: bytes, context: Context) -> CheckResponse:
        """Answer `ext_authz`."""
        try:
            asked = CheckRequest.FromString(message)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a CheckRequest")
        peer = peer_address(context.peer())
        if not check.fits(asked, self._bounds.max_head_bytes):
            return check.write_unreadable()
        try:
            request = check.read(
                asked, peer, trusted=self._trusts(peer), max_body=self._bounds.max_body_bytes
            )
        except Exception as error:  # noqa: BLE001 - one request must not take the front with it
            self._app.recorder.failed(error, self._app.clock())
            return check.write(UNAVAILABLE)
        decision, _ = await self._decide(request, peer)
        told = _waits_itself(context)
        if decision.delay_ms and not told:
            await asyncio.sleep(decision.delay_ms / 1000)
        return check.write(decision, delay_header=told)

    async def should_rate_limit(self, message: bytes, context: Context) -> RateLimitResponse:
        """Answer the rate limit filter."""
        peer = peer_address(context.peer())
        try:
            asked = RateLimitRequest.FromString(message)
            questions = ratelimit.read(
                asked, peer, trusted=self._trusts(peer), max_head=self._bounds.max_head_bytes
            )
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a RateLimitRequest")
        except UnreadableError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except TooLargeError:
            return ratelimit.write_too_large()
        except Exception as error:  # noqa: BLE001 - as above
            self._app.recorder.failed(error, self._app.clock())
            return ratelimit.write([UNAVAILABLE])
        answers = await asyncio.gather(*[self._decide(each.request, peer) for each in questions])
        decisions = [decision for decision, _ in answers]
        refused = any(decision.action == "reject" for decision in decisions)
        for question, (_, exchange) in zip(questions, answers, strict=True):
            if refused or not question.charges:
                exchange.take_back()
        told = _waits_itself(context)
        delay = 0 if refused or told else max(decision.delay_ms for decision in decisions)
        if delay:
            await asyncio.sleep(delay / 1000)
        return ratelimit.write(decisions, delay_header=told)

    async def _decide(self, request: Request, peer: str) -> tuple[Decision, Exchange]:
        """Return the decision on a request, and what can take back its charges."""
        answered: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()

        def deliver(decision: Decision, _: Evaluation | None, __: bytes) -> None:
            if not answered.done():
                answered.set_result(decision)

        inbound = Inbound(
            request.method,
            request.path.encode(),
            request.headers,
            request.body,
            peer,
            trusted=request.trusted,
        )
        exchange = Exchange(self._app, None, inbound, request=request, deliver=deliver)
        self._app.decide(exchange)
        return await answered, exchange


def _waits_itself(context: Context) -> bool:
    """Return whether the caller, not its client, said that it waits when throttled (§5.4)."""
    return any(
        key == _PREFER and str(value).strip().lower() == _DELAY_HEADER
        for key, value in context.invocation_metadata() or ()
    )
