"""One HTTP/1.1 connection to an upstream (RFC 9112): a request out, its response in, then the next.

Rules
- Nothing is ever sent twice: a request that fails has failed. What was charged for it cannot be
  known to be unused once a byte of it has left.
- What one read brings is collected first and handed over afterwards, in order: the caller may cut
  the connection from within any call.
- Informational responses are skipped. A response that answers HEAD, or is 204 or 304, has no body;
  without a length a body ends with the connection.
- A connection is used again only after a complete response that allows it, to a complete request,
  with nothing behind it.
"""

import asyncio
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from daemon.front.plain_chunks import content_of
from daemon.front.plain_responses import read_response
from daemon.front.response_reader import ResponseReader
from daemon.front.socket_writer import SocketWriter
from daemon.front.upstream_caller import Caller, Failure, Recipient

MAX_HEAD_BYTES = 65_536
"""The default of `FAIRVISOR_UPSTREAM_MAX_HEAD_BYTES`."""


class UpstreamConnection:
    """`free` is called when the connection can take another request, `lost` when it is gone.

    To asyncio it is a protocol, as `HttpConnection` is.
    """

    __slots__ = (
        "_caller", "_concluded", "_due", "_free", "_headless", "_heard", "_loop", "_lost",
        "_max_head", "_max_plain", "_out", "_paused", "_poll", "_recipient", "_response",
        "_silence", "_timer", "_transport", "_uploaded", "idle_since",
    )  # fmt: skip

    def __init__(
        self,
        free: Callable[["UpstreamConnection"], None],
        lost: Callable[["UpstreamConnection"], None],
        loop: asyncio.AbstractEventLoop,
        max_head: int = MAX_HEAD_BYTES,
    ) -> None:
        # What every chunk needs lies together.
        self._caller: Caller | None = None
        self._response: ResponseReader | None = None
        self._recipient: Recipient | None = None
        self._loop = loop
        self._heard = 0.0
        self._max_head = max_head
        self._max_plain = max_head // 2
        self._free = free
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._paused = False
        self._poll: select.poll | None = None
        self.idle_since = 0.0
        self._concluded = False  # not to be used again

    # the pool's side

    @property
    def is_fresh(self) -> bool:
        """Whether the connection is silent, as one that waits should be: not closed, not broken."""
        transport, poll = self._transport, self._poll
        if transport is None or transport.is_closing() or poll is None:
            return False
        return not poll.poll(0)

    def start(
        self, request: bytes, caller: Caller, silence: float, *, headless: bool, uploaded: bool
    ) -> None:
        """Send a request and hand its response to `caller`.

        `silence` is how many seconds the upstream may send nothing; `headless` says that the
        request was HEAD, `uploaded` that `request` is all of it.
        """
        self._caller = caller
        self._silence = silence
        self._headless = headless
        self._uploaded = uploaded
        now = self._heard = self._loop.time()
        if self._timer is None or self._due > now + silence:
            self._watch_in(silence)
        transport = self._transport
        if transport is None or transport.is_closing():
            self._fail("unanswered")
            return
        self._out.write(request)
        caller.upstream_sent()

    # the caller's side: see `Call` in the pool

    def write(self, data: bytes) -> None:
        """Send more of the request."""
        if self._transport is not None and not self._transport.is_closing():
            self._out.queue(data)

    def end_upload(self) -> None:
        """Note that the request is complete."""
        self._uploaded = True

    def pause(self) -> None:
        """Read nothing more for now."""
        self._paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self._paused:
            return
        self._paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._heard = self._loop.time()  # the silence was ours
            self._transport.resume_reading()

    def conclude(self) -> bool:
        """Take no more from the upstream, but read to the end what it has sent until now.

        The socket is shut, so that from this moment the kernel refuses what the upstream sends.
        What had arrived before is handed over as ever, and then the connection is lost. Returns
        False if there is no connection.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        self._concluded = True
        with suppress(OSError), transport.get_extra_info("socket").dup() as sock:
            sock.shutdown(socket.SHUT_RDWR)
        self.resume()
        return True

    def cancel(self) -> None:
        """Cut the connection; the caller hears nothing more."""
        self._detach()
        if self._transport is not None:
            self._transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = stream = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        plain = sock is not None and transport.get_extra_info("ssl_object") is None
        self._out = SocketWriter(stream, sock.fileno() if plain else -1)
        if sock is not None:
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN | select.POLLRDHUP)

    def data_received(self, data: bytes) -> None:
        """Read on, then hand over what has come."""
        caller = self._caller
        if caller is None:
            self.cancel()  # nobody asked for anything
            return
        self._heard = self._loop.time()
        response, recipient = self._response, self._recipient
        if response is None:
            if not self._headless and (plain := read_response(data, self._max_plain)) is not None:
                self._finish(reusable=True)
                caller.upstream_plain(plain)
                return
            response = ResponseReader(headless=self._headless, max_head=self._max_head)
            self._response = response
        elif recipient is not None and response.between and (start := content_of(data)):
            recipient.upstream_chunk(data, start)
            return
        response.feed(data)
        if recipient is not None and response.goes_on:
            recipient.upstream_data(response.take())  # one chunk of a stream, as most reads bring
            return
        self._deliver(response)

    def connection_lost(self, error: Exception | None) -> None:
        """End a body that has no other end; fail anything else that is under way."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._lost(self)
        response = self._response
        if self._caller is None:
            pass  # nobody waits for anything
        elif response is None or response.head is None:
            self._fail("unanswered")
        elif error is None and response.ends_with_connection:
            self._end(reusable=False)
        else:
            self._fail("broken")
        self._forget_response()

    def eof_received(self) -> bool:
        """Let the connection be closed: an upstream that sends no more takes no more."""
        return False

    def pause_writing(self) -> None:
        """Tell who uploads to wait."""
        if self._caller is not None:
            self._caller.upstream_full()

    def resume_writing(self) -> None:
        """Tell who uploads to go on."""
        if self._caller is not None:
            self._caller.upstream_drained()

    # handing over

    def _deliver(self, response: ResponseReader) -> None:
        head, caller, recipient = response.head, self._caller, self._recipient
        if head is not None and recipient is None and caller is not None:
            more = bool(response.pieces) or response.complete
            recipient = caller.upstream_head(head, more=more)
            if self._caller is not caller:
                return  # it has cut us off
            self._caller = self._recipient = recipient
        if response.pieces and recipient is not None:
            recipient.upstream_data(response.take())
            if self._caller is not recipient:
                return
        if response.complete:
            self._end(reusable=response.reusable)
        elif response.broken:
            self._fail("broken")

    def _end(self, *, reusable: bool) -> None:
        recipient = self._recipient
        self._forget_response()
        self._finish(reusable=reusable)
        if recipient is not None:
            recipient.upstream_end()

    def _forget_response(self) -> None:
        """Expect another response; a plain one leaves nothing to forget."""
        if self._response is not None:
            self._response.close()
        self._response = self._recipient = None

    def _finish(self, *, reusable: bool) -> None:
        """Let go of a complete exchange."""
        self._caller = None
        transport = self._transport
        if transport is None:
            return
        if reusable and self._uploaded and not self._concluded and not transport.is_closing():
            if self._paused:
                self.resume()
            self._free(self)
        else:
            transport.abort()

    def _fail(self, failure: Failure) -> None:
        caller = self._detach()
        if self._transport is not None:
            self._transport.abort()
        if caller is not None:
            caller.upstream_failed(failure)

    def _detach(self) -> Caller | None:
        caller, self._caller = self._caller, None
        return caller

    def _watch_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = self._loop.time() + seconds
        self._timer = self._loop.call_later(seconds, self._watch)

    def _watch(self) -> None:
        """Give up on a silent upstream. One timer for many requests: one for each costs 1 µs."""
        self._timer = None
        if self._caller is None:
            return
        left = self._silence
        if not self._paused:
            left += self._heard - self._loop.time()
        if left <= 0:
            self._fail("timeout")
        else:
            self._watch_in(max(left, 0.01))
