"""A request that nobody meters, as long as all goes well: sent on, its whole answer passed back.

Most answers are plain and there at once. Whatever else happens (a stream, a failure, a client that
leaves or does not read) is a relay's to deal with, which takes over then.
"""

from typing import final

from daemon.front.http1 import HttpConnection
from daemon.front.inbound import Inbound
from daemon.front.plain_responses import PlainResponse
from daemon.front.proxy.heads import request_framing
from daemon.front.proxy.passage import Passage
from daemon.front.proxy.relay import Relay
from daemon.front.upstream_caller import Failure, ResponseHead
from daemon.front.upstream_pool import Calling
from protocol.decision import Decision


@final
class Passing:
    """Watcher of the client and caller of the upstream, for one request that has arrived whole.

    `decision` allows it and has nothing to say to the client.
    """

    __slots__ = ("_call", "_connection", "_decision", "_inbound", "_passage")

    def __init__(
        self, connection: HttpConnection, inbound: Inbound, passage: Passage, decision: Decision
    ) -> None:
        self._connection = connection
        self._inbound = inbound
        self._passage = passage
        self._decision = decision
        self._call: Calling | None = None
        connection.attach(self)

    def send(self) -> None:
        """Ask the upstream."""
        inbound, passage = self._inbound, self._passage
        surroundings = passage.surroundings
        body = inbound.body
        head = passage.head(surroundings.heads, inbound)
        self._call = passage.pool.send(
            b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
            if body
            else head + request_framing(inbound, 0),
            self,
            surroundings.silence,
            headless=inbound.method == "HEAD",
            uploaded=True,
        )

    def _relay(self) -> Relay:
        """Let a relay take over."""
        connection, inbound, passage = self._connection, self._inbound, self._passage
        relay = Relay(passage.surroundings, connection, inbound, passage)
        relay.take_over(self._decision, self._call)
        return relay

    # the upstream's side

    def upstream_sent(self) -> None:
        """Nothing waits for that."""

    def upstream_plain(self, plain: PlainResponse) -> None:
        """Pass a whole answer on."""
        self._connection.respond(plain.head, plain.body)

    def upstream_head(self, head: ResponseHead, *, more: bool) -> Relay:
        """Have anything else relayed."""
        return self._relay().upstream_head(head, more=more)

    def upstream_failed(self, failure: Failure) -> None:
        """Have the client told."""
        self._relay().upstream_failed(failure)

    def upstream_full(self) -> None:
        """Let the upstream take its time: the request is all there."""

    def upstream_drained(self) -> None:
        """Nothing waits for that."""

    # the client's side

    def client_gone(self) -> None:
        """Stop the upstream."""
        if self._call is not None:
            self._call.cancel()

    def upload(self, chunk: bytes) -> None:
        """There is no more of it."""

    def upload_ended(self) -> None:
        """It had ended before."""

    def client_full(self) -> None:
        """Let the upstream wait."""
        if self._call is not None:
            self._call.pause()

    def client_drained(self) -> None:
        """Let the upstream go on."""
        if self._call is not None:
            self._call.resume()
