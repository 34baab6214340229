"""What a front serves in the proxy modes: the daemon's own paths, the decision API, upstreams."""

from time import perf_counter

from adapters import dialects
from daemon.front.answers import answer
from daemon.front.app import App
from daemon.front.exchange import Exchange
from daemon.front.http1 import HttpConnection
from daemon.front.inbound import Inbound
from daemon.front.proxy.heads import refusal
from daemon.front.proxy.passage import Passage
from daemon.front.proxy.passing import Passing
from daemon.front.proxy.relay import Relay
from daemon.front.proxy.route import Route, find_route
from daemon.front.proxy.surroundings import Surroundings
from protocol.decision import Decision
from protocol.request import Request

_BAD_CREDENTIAL = Decision(action="reject", status=401, reason="invalid_token")
_OUTSIDE = 400
_SETTLE = b"/v1/settle"


class ProxyApp:
    """Answers or relays every request."""

    verbatim = True

    def __init__(self, app: App, surroundings: Surroundings) -> None:
        self._app = app
        self._surroundings = surroundings
        self._terse = app.terse
        self._hybrid = surroundings.config.mode == "hybrid"

    async def settled(self, seconds: float) -> None:
        """Wait until every exchange that has ended is settled, but no longer than `seconds`."""
        await self._surroundings.settler.idle(seconds)

    def handle(self, connection: HttpConnection, inbound: Inbound) -> None:
        """Answer one request."""
        head = inbound.head
        passage = None if head is None else head.passage
        if type(passage) is not Passage or passage.surroundings is not self._surroundings:
            passage = self._passage(connection, inbound)
            if passage is None:
                return
            if head is not None:
                head.passage = passage
        app = self._app
        engine = app.engine
        if engine is not None and self._terse:
            started = perf_counter()
            decision = passage.unseen(engine)
            if decision is not None:
                app.unseen(inbound, decision, perf_counter() - started)
                if not inbound.unfinished:
                    Passing(connection, inbound, passage, decision).send()
                else:
                    Relay(self._surroundings, connection, inbound, passage).decided(decision, None)
                return
        relay = Relay(self._surroundings, connection, inbound, passage)
        request = Request(
            method=inbound.method,
            path=passage.path,
            headers=passage.headers(inbound),
            query=passage.query,
            host=passage.host,
            peer=inbound.peer,
            trusted=inbound.trusted,
            body=inbound.body,
            provider=passage.route.provider,
        )
        app.decide(Exchange(app, connection, inbound, request=request, deliver=relay.decided))

    def _passage(self, connection: HttpConnection, inbound: Inbound) -> Passage | None:
        """Return the way of a request, None if it has been answered."""
        path = inbound.target.partition(b"?")[0]
        if self._app.is_local(path) or (self._hybrid and _is_decision_api(path)):
            self._app.handle(connection, inbound)
            return None
        route = find_route(self._surroundings.config, inbound)
        if isinstance(route, Route):
            return Passage(self._surroundings, inbound, route)
        if route.status == _BAD_CREDENTIAL.status:
            connection.respond(*refusal(_BAD_CREDENTIAL, route.family))
        elif route.status == _OUTSIDE:
            words = "the path leads above the upstream's base path"
            answer(connection, _OUTSIDE, {"error": "bad_path", "message": words})
        else:
            answer(connection, 404, {"error": "not_found", "try": "/openai/v1"})
        return None


def _is_decision_api(path: bytes) -> bool:
    return dialects.find(path) is not None or path == _SETTLE or path.startswith(_SETTLE + b"/")
