"""One client connection (RFC 9112): requests in, answers out in their order, all of it bounded.

Rules
- One request of a connection is decided at a time; pipelined ones wait their turn, so answers keep
  their order. What was complete before a malformed request is answered before the refusal.
- Every state that waits for the client has a deadline: a request to arrive (head and body), the
  next one to begin, answers to be read, the connection to be closed by the other side. While the
  daemon itself owes an answer there is none.
- While a client does not read its answers, nothing more is read from it.
- After a refusal the sending side is closed first and what still arrives is thrown away for a
  while (§9.6): a close with unread bytes would take the answer back from the client.
- An app that answers in pieces attaches a watcher, which hears when the client leaves, stops
  reading or goes on, and takes the rest of an unfinished request's body. With a watcher, the end of
  the client's sending side counts as its leaving: there is no other sign of it.
"""

import asyncio
import logging
from collections import deque

from daemon.front.request_reader import Inbound, Refusal, RequestReader
from daemon.front.surroundings import Server, Watcher
from daemon.front.trace import place

log = logging.getLogger("fairvisor")

MAX_PIPELINED = 64
"""Requests of one connection that may wait for their turn."""
LINGER_SECONDS = 2.0
"""How long a refused client's bytes are thrown away before the connection is cut."""
NEVER = float("inf")


class HttpConnection(asyncio.Protocol):
    """One client connection. `deadline` is when the server's sweep calls `expire`."""

    __slots__ = (
        "_closing",
        "_current",
        "_delay",
        "_ended",
        "_eof",
        "_excess",
        "_expects",
        "_held",
        "_last",
        "_opening",
        "_paused",
        "_queue",
        "_queued_bytes",
        "_reader",
        "_refusal",
        "_server",
        "_transport",
        "_uploading",
        "_watcher",
        "deadline",
    )

    _reader: RequestReader

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._current: tuple[bool, bytes, bool] | None = None
        """Of the request being decided: keep alive, Connection line, HEAD."""
        self._queue: deque[tuple[Inbound, bool, bytes]] = deque()
        self._queued_bytes = 0
        self._refusal = b""
        """What is answered, after all that came before, to bytes that are no request."""
        self._delay: asyncio.TimerHandle | None = None
        self._ended = False  # no further request is taken
        self._excess = False  # bytes came that nobody will read
        self._last = False  # say so and close once what was taken has been answered
        self._closing = False
        self._opening = b""  # the head of an answer whose first piece is about to be written
        self._expects = False
        self._paused = False
        self._eof = False
        self._held = False  # the app takes no more of the body for now
        self._uploading = False  # the current request's body is still arriving
        self._watcher: Watcher | None = None
        self.deadline = NEVER

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a new connection, or turn it away when there are too many."""
        self._transport = transport  # type: ignore[assignment]  # a stream's transport
        address = transport.get_extra_info("peername")
        peer = address[0] if isinstance(address, tuple) else ""
        server = self._server
        self._reader = RequestReader(
            self,
            peer,
            trusted=server.is_trusted(peer),
            max_head=server.bounds.max_head_bytes,
            max_body=server.bounds.max_body_bytes,
            verbatim=server.app.verbatim,
        )
        self.deadline = server.clock + server.bounds.header_timeout
        if not server.opened(self):
            self._refuse(Refusal("503 Service Unavailable", "too many connections"))

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget a connection that is gone."""
        self._forget()
        self._reader.close()
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        """Read on; requests come out through `complete`."""
        if self._ended:
            self._excess = True
            return
        try:
            self._reader.feed(data)
        except Refusal as refusal:
            self._refuse(refusal)

    def eof_received(self) -> bool:
        """Let answers under way still be written to a client that closed its sending side.

        A client that leaves looks the same, so one whose answer is being delayed is taken to have
        left (§5.4).
        """
        self._eof = self._ended = self._last = True
        if self._current is not None and self._delay is None and self._watcher is None:
            return True
        self._forget(keep_transport=True)
        self._close()
        return False

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read."""
        self._paused = True
        if self._transport is not None and not self._eof and not self._closing:
            self._transport.pause_reading()
        if self._watcher is not None:
            self.deadline = self._server.clock + self._server.bounds.idle_timeout
            self._watcher.client_full()

    def resume_writing(self) -> None:
        """Read on once the client has read."""
        self._paused = False
        self._read_on()
        if self._watcher is not None:
            self.deadline = NEVER
            self._watcher.client_drained()

    def _read_on(self) -> None:
        transport = self._transport
        if self._paused or self._held or self._eof or transport is None or transport.is_closing():
            return
        transport.resume_reading()

    # the reader's side

    def begun(self) -> None:
        """Start a request's clock, unless it began while another is being answered."""
        if self._current is None:
            self.deadline = self._server.clock + self._server.bounds.header_timeout

    def expects(self) -> None:
        """Say 100 Continue, but not in the middle of the answers before it."""
        if self._current is None and self._transport is not None and not self._ended:
            self._transport.write(_CONTINUE)
        else:
            self._expects = True

    def complete(self, inbound: Inbound, keep: bool, version: str, /) -> None:  # noqa: FBT001
        """Hand a request to the app, or queue it behind the one being decided.

        Raises:
            Refusal: too much waits already.
        """
        if self._ended:
            self._excess = True
            return
        self._expects = False
        if inbound.unfinished and self._current is not None:
            raise Refusal("400 Bad Request", "too many pipelined requests")
        self._uploading = inbound.unfinished
        keep = keep and not self._last
        line = b"" if keep and version == "1.1" else _CONNECTION[keep]
        if self._current is None:
            self._ended = not keep
            self._dispatch(inbound, keep, line)
            return
        self._queued_bytes += len(inbound.body)
        if (
            len(self._queue) >= MAX_PIPELINED
            or self._queued_bytes > self._server.bounds.max_body_bytes
        ):
            raise Refusal("400 Bad Request", "too many pipelined requests")
        self._ended = not keep
        self._queue.append((inbound, keep, line))

    def excess(self, chunk: bytes) -> None:
        """Pass more of the body on; after the answer it is thrown away."""
        if self._watcher is not None:
            self.deadline = self._server.clock + self._server.bounds.header_timeout
            self._watcher.upload(chunk)

    def excess_ended(self) -> None:
        """Tell the watcher that the body is complete."""
        self._uploading = False
        if self._watcher is not None:
            self.deadline = NEVER
            self._watcher.upload_ended()

    def _dispatch(self, inbound: Inbound, keep: bool, line: bytes) -> None:  # noqa: FBT001
        self._current = (keep, line, inbound.method == "HEAD")
        self.deadline = NEVER
        try:
            self._server.app.handle(self, inbound)
        except Exception as error:  # noqa: BLE001 - one request must not take others with it
            # Whoever called may be a shard's link with other requests' replies in hand.
            kind = type(error).__name__
            log.error("a request could not be handled: %s at %s", kind, place(error))  # noqa: TRY400 - its text may quote the request
            self.respond(_FAILED)

    # the app's side

    @property
    def gone(self) -> bool:
        """Whether the client has left, so that no answer can reach it."""
        return self._transport is None

    def respond(self, head: bytes, body: bytes = b"") -> None:
        """Answer the request being decided.

        `head` is the status line and fields, each ended by CRLF, without Connection and the final
        empty line.
        """
        transport = self._transport
        current = self._current
        if transport is None or current is None:
            return
        keep, line, headless = current
        if keep and (self._uploading or (self._last and self._is_through())):
            keep, line = False, _CONNECTION[False]
        transport.write(
            b"".join((head, line, b"\r\n", b"" if headless else body))
            if line or body
            else head + b"\r\n"
        )
        self._answered(keep=keep)

    def attach(self, watcher: Watcher) -> None:
        """Let `watcher` hear of the client until the request is answered."""
        self._watcher = watcher

    def hold(self) -> None:
        """Take no more of the body from the client until `release`."""
        self._held = True
        if self._transport is not None and not self._eof and not self._closing:
            self._transport.pause_reading()
            self.deadline = NEVER  # it is not the client's fault

    def release(self) -> None:
        """Take more of the body again."""
        if self._held:
            self._held = False
            self._read_on()

    def open(self, head: bytes, *, close: bool = False, more: bool = False) -> None:
        """Begin an answer whose body follows through `send`, as framed by `head`.

        `close`: the end of the connection ends the body. `more`: the first piece or the end follows
        in the same turn and takes the head with it, since a write costs a sixth of a request.
        """
        transport = self._transport
        current = self._current
        if transport is None or current is None:
            return
        keep, line, headless = current
        if keep and (close or self._uploading or (self._last and self._is_through())):
            keep, line = False, _CONNECTION[False]
        self._current = (keep, line, headless)
        opening = b"".join((head, line, b"\r\n"))
        if more:
            self._opening = opening
        else:
            transport.write(opening)

    def send(self, data: bytes) -> None:
        """Write a piece of the answer's body."""
        if self._transport is not None and self._current is not None:
            if self._opening:
                data = self._opening + data
                self._opening = b""
            self._transport.write(data)

    def end(self) -> None:
        """End an answer that was opened."""
        if self._transport is not None and self._current is not None:
            self.flush()
            # A drain may have begun since its head said that the connection stays.
            self._answered(keep=self._current[0] and not (self._last and self._is_through()))

    def flush(self) -> None:
        """Write a head that still waits for its first piece."""
        if self._opening:
            self.send(b"")

    def _answered(self, *, keep: bool) -> None:
        self._current = self._delay = self._watcher = None
        self.release()
        if not keep:
            self._ended = True
            if self._excess or self._uploading:
                self._linger()
            else:
                self._close()
        elif self._queue:
            inbound, keep, line = self._queue.popleft()
            self._queued_bytes -= len(inbound.body)
            self._dispatch(inbound, keep, line)
        elif self._refusal:
            self._send_refusal()
        elif self._reader.in_message:
            self._await_rest()
        else:
            self.deadline = self._server.clock + self._server.bounds.idle_timeout

    def wait(self, delay: asyncio.TimerHandle) -> None:
        """Let a delayed answer be forgotten when the client leaves."""
        self._delay = delay

    def _is_through(self) -> bool:
        """Return whether nothing waits behind the answer that is being written."""
        arriving = self._reader.in_message and not self._ended
        return not (self._queue or self._refusal or arriving)

    def _await_rest(self) -> None:
        """Give a request that began during an answer its time, and the word it waits for."""
        self.deadline = self._server.clock + self._server.bounds.header_timeout
        if self._expects and self._transport is not None:
            self._expects = False
            self._transport.write(_CONTINUE)

    # the server's side

    def retire(self) -> None:
        """Let the next answer be the last (drain)."""
        self._last = True

    def finish(self) -> None:
        """Close unless something is arriving or being answered (drain)."""
        if self._current is None and not self._reader.in_message and not self._closing:
            self._close()

    def expire(self) -> None:
        """Close a connection that used up its time: 408 in mid-request, silently when idle."""
        transport = self._transport
        if transport is None:
            return
        if (
            self._closing
            or self._paused
            or self._watcher is not None
            or transport.get_write_buffer_size()
        ):
            self.cut()  # what it does not read will never be flushed
        elif self._reader.in_message:
            self._refuse(Refusal("408 Request Timeout", "request took too long to arrive"))
        else:
            self._close()

    def cut(self) -> None:
        """End it now, whatever is still owed."""
        transport = self._transport
        if transport is not None:
            self._forget()
            transport.abort()

    # the end

    def _refuse(self, refusal: Refusal) -> None:
        if self._ended:
            self._excess = True
            return
        self._ended = True
        body = b'{"error":"%s"}' % refusal.reason.encode()
        self._refusal = (
            b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
            b"Connection: close\r\n\r\n%s" % (refusal.status.encode(), len(body), body)
        )
        if self._current is None:
            self._send_refusal()

    def _send_refusal(self) -> None:
        if self._transport is not None:
            self._transport.write(self._refusal)
            self._linger()

    def _linger(self) -> None:
        if self._transport is None:
            return
        if self._eof:
            self._close()
            return
        self._closing = True
        self.deadline = self._server.clock + LINGER_SECONDS
        self._transport.write_eof()
        if self._paused:
            self._transport.resume_reading()  # to throw away, and to see the end

    def _close(self) -> None:
        if self._transport is None:
            return
        self._closing = self._ended = True
        # The transport closes when all is flushed, which is up to the client.
        self.deadline = self._server.clock + self._server.bounds.idle_timeout
        self._transport.close()

    def _forget(self, *, keep_transport: bool = False) -> None:
        """Answer nothing any more."""
        self._ended = True
        self._current = None
        self._queue.clear()
        if self._delay is not None:
            self._delay.cancel()
            self._delay = None
        if not keep_transport:
            self._transport = None
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.client_gone()


_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FAILED = (
    b"HTTP/1.1 503 Service Unavailable\r\nX-Fairvisor-Reason: service_unavailable\r\n"
    b"Retry-After: 1\r\nContent-Length: 0\r\n"
)
_CONNECTION = {True: b"Connection: keep-alive\r\n", False: b"Connection: close\r\n"}
