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

import httptools

from daemon.front.plain_chunks import content_of
from daemon.front.plain_responses import read_response
from daemon.front.upstream_caller import Caller, Failure, ResponseHead
from daemon.front.upstream_headers import NAMES_NOTHING, Headers

MAX_HEAD_BYTES = 65_536
"""The default of `FAIRVISOR_UPSTREAM_MAX_HEAD_BYTES`."""
MAX_FIELDS = 256
_FIELD_FRAME = 4
_OK = 200


class UpstreamConnection(asyncio.Protocol):
    """`free` is called when the connection can take another request, `lost` when it is gone."""

    __slots__ = (
        "_between", "_caller", "_chunk_ended", "_complete", "_due", "_extra", "_failure", "_free",
        "_head", "_head_bytes", "_headers", "_headless", "_heard", "_loop", "_lost", "_max_head", "_max_plain",
        "_parser", "_paused", "_pieces", "_poll", "_reason", "_reusable", "_silence", "_timer",
        "_transport",
        "_uploaded", "idle_since",
    )  # fmt: skip

    def __init__(
        self,
        free: Callable[["UpstreamConnection"], None],
        lost: Callable[["UpstreamConnection"], None],
        loop: asyncio.AbstractEventLoop,
        max_head: int = MAX_HEAD_BYTES,
    ) -> None:
        self._max_head = max_head
        self._max_plain = max_head // 2
        self._free = free
        self._lost = lost
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._caller: Caller | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._paused = False
        self._poll: select.poll | None = None
        self.idle_since = 0.0
        self._extra = False
        self._begin()

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
        if self._transport is None or self._transport.is_closing():
            self._fail("unreachable")
            return
        self._transport.write(request)
        caller.upstream_sent()

    # the caller's side: see `Call` in the pool

    def hand_to(self, caller: Caller) -> None:
        """Tell somebody else from now on."""
        if self._caller is not None:
            self._caller = caller

    def write(self, data: bytes) -> None:
        """Send more of the request."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

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
        self._extra = True  # not to be used again
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
        self._transport = transport  # type: ignore[assignment]  # a stream's transport
        sock = transport.get_extra_info("socket")
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
        if self._between and (start := content_of(data)):
            caller.upstream_chunk(data, start)
            return
        parser = self._parser
        if parser is None:
            if not self._headless and (plain := read_response(data, self._max_plain)) is not None:
                self._finish(reusable=True)
                caller.upstream_plain(plain)
                return
            self._reset()
            parser = self._parser = httptools.HttpResponseParser(self)
        head_missing = self._head is None
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._complete:
                self._failure = "broken"
            self._extra = True
        # A chunk that has begun has told its size, in a line: nothing of one is there yet.
        self._between = self._chunk_ended and data.endswith(b"\r\n")
        pieces = self._pieces
        if len(pieces) == 1 and not (head_missing or self._complete or self._failure):
            caller.upstream_data(pieces.pop())  # one chunk of a stream, as most reads bring
            return
        if head_missing and self._head is None:
            self._head_bytes += len(data)
            if self._head_bytes > 2 * self._max_head:
                self._failure = "broken"
        self._deliver(told=not head_missing)

    def connection_lost(self, error: Exception | None) -> None:
        """End a body that has no other end; fail anything else that is under way."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._lost(self)
        if self._caller is None:
            return
        head = self._head
        if head is not None and error is None and self._ends_with_connection(head):
            self._end()
        else:
            self._fail("broken" if head is not None else "unreachable")

    def pause_writing(self) -> None:
        """Tell who uploads to wait."""
        if self._caller is not None:
            self._caller.upstream_full()

    def resume_writing(self) -> None:
        """Tell who uploads to go on."""
        if self._caller is not None:
            self._caller.upstream_drained()

    # llhttp's side

    def on_message_begin(self) -> None:
        """Start a head; behind a complete response there must be none."""
        if self._complete:
            self._extra = True
            return
        self._reset()

    def on_status(self, reason: bytes) -> None:
        """Collect the reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field."""
        if self._head is not None:
            return  # trailers are not passed on
        self._head_bytes += len(name) + len(value) + _FIELD_FRAME
        self._headers.append((name, value.rstrip(b" \t")))
        if self._head_bytes > self._max_head or len(self._headers) > MAX_FIELDS:
            raise ValueError("response head too large")

    def on_headers_complete(self) -> None:
        """Judge the head."""
        parser = self._parser
        if parser is None or (status := parser.get_status_code()) < _OK or self._complete:
            return
        length: int | None = None
        names_nothing = True
        coded = False
        for name, value in self._headers:
            lower = name.lower()
            if lower == b"connection":
                names_nothing = names_nothing and value.lower() in NAMES_NOTHING
            elif lower == b"content-length":
                length = int(value)
            elif lower == b"transfer-encoding":
                if coded or value.strip().lower() != b"chunked":
                    raise ValueError("a transfer coding that was not asked for")
                coded = True
        self._head = ResponseHead(
            status, self._reason, self._headers, length, names_nothing=names_nothing
        )
        if self._headless:
            self._complete = True
            self._reusable = parser.should_keep_alive()

    def on_chunk_header(self) -> None:
        """Note that a chunk has begun."""
        self._chunk_ended = False

    def on_chunk_complete(self) -> None:
        """Note that it has ended, unless it is the last: then trailers may follow."""
        self._chunk_ended = self._head is not None and not self._complete

    def on_body(self, chunk: bytes) -> None:
        """Keep a piece until it is handed over; behind a complete response it is nobody's."""
        if self._complete:
            self._extra = True
        else:
            self._pieces.append(chunk)

    def on_message_complete(self) -> None:
        """Note the end."""
        self._chunk_ended = False
        parser = self._parser
        if parser is not None and self._head is not None and not self._complete:
            self._complete = True
            self._reusable = parser.should_keep_alive()

    # handing over

    def _begin(self) -> None:
        """Expect a response of which nothing is known: what a plain one leaves as it is."""
        self._head: ResponseHead | None = None
        self._pieces: list[bytes] = []
        self._complete = self._reusable = False
        self._between = self._chunk_ended = False
        self._failure: Failure | None = None
        self._parser: httptools.HttpResponseParser | None = None

    def _reset(self) -> None:
        self._headers: Headers = []
        self._reason = b""
        self._head_bytes = 0

    def _deliver(self, *, told: bool) -> None:
        caller = self._caller
        if caller is None:
            return
        if self._head is not None and not told:
            caller.upstream_head(self._head, more=bool(self._pieces) or self._complete)
            caller = self._caller  # another may have taken over, or has cut us off
        if self._pieces and caller is not None:
            data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces.clear()
            caller.upstream_data(data)
        if self._caller is None:
            return
        if self._complete:
            self._end()
        elif self._failure is not None:
            self._fail(self._failure)

    def _end(self) -> None:
        reusable = self._reusable
        self._begin()
        caller = self._caller
        self._finish(reusable=reusable)
        if caller is not None:
            caller.upstream_end()

    def _finish(self, *, reusable: bool) -> None:
        """Let go of a complete exchange."""
        self._caller = None
        transport = self._transport
        if transport is None:
            return
        if reusable and self._uploaded and not self._extra and not transport.is_closing():
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

    def _ends_with_connection(self, head: ResponseHead) -> bool:
        return head.length is None and not any(
            name.lower() == b"transfer-encoding" for name, _ in head.headers
        )
