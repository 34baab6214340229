"""One client connection (RFC 9112): requests in, answers out in their order, all of it bounded.

Rules
- One request of a connection is decided at a time; pipelined ones wait their turn, so answers keep
  their order. What was complete before a malformed request is answered before the refusal.
- Every state that waits for the client has a deadline: a head to arrive, each further share of a
  body, the next request to begin, answers to be read, the connection to be closed by the other
  side. While the daemon itself owes an answer there is none.
- A body that arrives steadily may take its time: when its time is up, and since the last look it
  has brought as much as the slowest acceptable client sends in it, it gets as much again.
- While a client does not read its answers, nothing more is read from it.
- After a refusal the sending side is closed first and what still arrives is thrown away for a
  while (§9.6): a close with unread bytes would take the answer back from the client.
- An app that answers in pieces attaches a watcher, which hears when the client leaves, stops
  reading or goes on, and takes the rest of an unfinished request's body. With a watcher, the end of
  the client's sending side counts as its leaving: there is no other sign of it.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from daemon.front.inbound import Inbound
from daemon.front.pipelined import Pipelined
from daemon.front.refusal import (
    Refusal,
    too_many_bodies,
    too_many_connections,
    too_many_waiting,
)
from daemon.front.request_reader import RequestReader
from daemon.front.socket_writer import SocketWriter
from daemon.front.surroundings import Server, Watcher

LINGER_SECONDS = 2.0
"""How long a refused client's bytes are thrown away before the connection is cut."""
NEVER = float("inf")
_COPIED = 1 << 16
"""A longer body is written by itself, which is cheaper than to copy it behind its head."""


class HttpConnection:
    """One client connection. `deadline` is when the server's sweep calls `expire`.

    To asyncio it is a protocol; in name it is none, since what is compiled inherits nothing that is
    not.
    """

    __slots__ = (
        "_closing",
        "_current",
        "_delay",
        "_ended",
        "_eof",
        "_excess",
        "_expects",
        "_held",
        "_kept",
        "_last",
        "_opening",
        "_out",
        "_paused",
        "_pipelined",
        "_reader",
        "_refusal",
        "_server",
        "_transport",
        "_uploading",
        "_watcher",
        "deadline",
    )

    _out: SocketWriter
    _reader: RequestReader

    def __init__(self, server: Server) -> None:
        # What every piece of an answer needs lies together.
        self._transport: asyncio.Transport | None = None
        self._current: tuple[bool, bytes, bool] | None = None
        """Of the request being decided: keep alive, Connection line, HEAD."""
        self._opening = b""  # the head of an answer whose first piece is about to be written
        self._server = server
        self._pipelined: Pipelined | None = None
        self._kept = 0
        """Bytes of bodies that memory was set aside for."""
        self._refusal = b""
        """What is answered, after all that came before, to bytes that are no request."""
        self._delay: asyncio.TimerHandle | None = None
        self._ended = False  # no further request is taken
        self._excess = False  # bytes came that nobody will read
        self._last = False  # say so and close once what was taken has been answered
        self._closing = False
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
        self._transport = stream = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        self._out = SocketWriter(stream, -1 if sock is None else sock.fileno())
        address = transport.get_extra_info("peername")
        peer = address[0] if isinstance(address, tuple) else ""
        server = self._server
        trusted = server.is_trusted(peer)
        self._reader = RequestReader(
            self,
            peer,
            trusted=trusted,
            max_head=server.bounds.max_head_bytes,
            max_body=server.bounds.max_body_bytes,
            max_fields=server.bounds.max_header_fields,
            verbatim=server.app.verbatim,
        )
        self.deadline = server.clock + server.bounds.header_timeout
        too_many = server.opened(self, peer, trusted=trusted)
        if too_many:
            self._refuse(too_many_connections(too_many))

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget a connection that is gone."""
        self._forget()
        self._reader.close()
        if self._kept:
            self._server.census.let_go(self._kept)
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
            self.deadline = self._server.clock + self._server.bounds.send_timeout
            self._watcher.client_full()

    def resume_writing(self) -> None:
        """Read on once the client has read."""
        self._paused = False
        self._read_on()
        if self._watcher is not None:
            self.deadline = self._next_share() if self._uploading else NEVER
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
            self._out.queue(_CONTINUE)
        else:
            self._expects = True

    def keeps(self, size: int) -> None:
        """Set memory aside for more of a body.

        Raises:
            Refusal: all connections together hold too much.
        """
        if self._ended:
            return
        if not self._server.census.keep(size):
            raise too_many_bodies()
        self._kept += size

    def take(self, inbound: Inbound, /) -> None:
        """Hand a plain request to the app; this is what `complete` comes to for nearly all.

        Raises:
            Refusal: all connections together hold too much, or too much waits already.
        """
        size = len(inbound.body)
        if size:
            if not self._server.census.keep(size):
                raise too_many_bodies()
            self._kept += size
        if self._current is not None or self._last:
            self.complete(inbound, True, "1.1")  # noqa: FBT003 - kept alive
            return
        self._uploading = False
        self._current = _PLAIN_HEAD if inbound.method == "HEAD" else _PLAIN
        self.deadline = NEVER
        try:
            self._server.app.handle(self, inbound)
        except Exception as error:  # noqa: BLE001 - one request must not take others with it
            self._failed(error)

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
            raise too_many_waiting()
        self._uploading = inbound.unfinished
        keep = keep and not self._last
        line = b"" if keep and version == "1.1" else _CONNECTION[keep]
        if self._current is None:
            self._ended = not keep
            self._dispatch(inbound, keep, line)
            return
        if self._pipelined is None:  # few connections ever need one, and it takes a fifth of them
            bounds = self._server.bounds
            self._pipelined = Pipelined(bounds.max_pipelined, bounds.max_body_bytes)
        self._pipelined.put((inbound, keep, line))
        self._ended = not keep

    def excess(self, chunk: bytes) -> None:
        """Pass more of the body on; after the answer it is thrown away."""
        if self._watcher is not None:
            if self.deadline == NEVER:
                self.deadline = self._next_share()
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
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._server.census.failed(error)
        self.respond(_FAILED)

    # the app's side

    @property
    def gone(self) -> bool:
        """Whether the client has left, so that no answer can reach it."""
        return self._transport is None

    def respond(
        self, head: bytes, body: bytes = b"", about_to: Callable[[], None] | None = None
    ) -> None:
        """Answer the request being decided.

        `head` is the status line and fields, each ended by CRLF, without Connection and the final
        empty line. `about_to` is called when nothing but a system call is left to do.
        """
        transport = self._transport
        current = self._current
        if transport is None or current is None:
            if about_to is not None:
                about_to()
            return
        keep, line, headless = current
        if keep and (self._uploading or (self._last and self._is_through())):
            keep, line = False, _CONNECTION[False]
        if len(body) > _COPIED and not headless:
            # Several clients may be sent the same metrics; each would hold a copy.
            if about_to is not None:
                about_to()
            self._out.queue(b"".join((head, line, b"\r\n")))
            self._out.queue(body)
            self._answered(keep=keep)
            return
        data = (
            b"".join((head, line, b"\r\n", b"" if headless else body))
            if line or body
            else head + b"\r\n"
        )
        if about_to is not None:
            about_to()
        self._out.write(data)
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
            if self._uploading and self._current is not None:
                self.deadline = self._next_share()
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
            self._out.queue(opening)

    def send(self, data: bytes) -> None:
        """Write a piece of the answer's body."""
        transport = self._transport
        if transport is not None and self._current is not None:
            if self._opening:
                data = self._opening + data
                self._opening = b""
            self._out.write(data)

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
        if self._held:
            self.release()
        if self._kept:
            if self._pipelined or self._reader.in_message:
                self._let_go()
            else:
                self._server.census.let_go(self._kept)
                self._kept = 0
        if not keep:
            self._ended = True
            if self._excess or self._uploading:
                self._linger()
            else:
                self._close()
        elif self._pipelined:
            self._dispatch(*self._pipelined.take())
        elif self._refusal:
            self._send_refusal()
        elif self._reader.in_message:
            self._await_rest()
        elif self._paused:
            self.deadline = self._server.clock + self._server.bounds.send_timeout
        else:
            self.deadline = self._server.clock + self._server.bounds.idle_timeout

    def _let_go(self) -> None:
        """Give the memory of an answered request's body back."""
        needed = self._reader.kept + (self._pipelined.size if self._pipelined else 0)
        self._server.census.let_go(self._kept - needed)
        self._kept = needed

    def wait(self, delay: asyncio.TimerHandle) -> None:
        """Let a delayed answer be forgotten when the client leaves."""
        self._delay = delay

    def _is_through(self) -> bool:
        """Return whether nothing waits behind the answer that is being written."""
        arriving = self._reader.in_message and not self._ended
        return not (self._pipelined or self._refusal or arriving)

    def _await_rest(self) -> None:
        """Give a request that began during an answer its time, and the word it waits for."""
        self.deadline = self._server.clock + self._server.bounds.header_timeout
        if self._expects and self._transport is not None:
            self._expects = False
            self._out.queue(_CONTINUE)

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
        census = self._server.census
        if self._paused or self._out.waiting:
            census.closed("unread")
            self.cut()  # what it does not read will never be flushed
        elif self._closing:
            self.cut()
        elif self._reader.in_message and self._keeps_up():
            self.deadline = self._next_share()
        elif self._watcher is not None:
            census.closed("slow_body")
            self.cut()
        elif self._reader.in_message:
            self._refuse(Refusal("408 Request Timeout", "request took too long to arrive", "slow"))
        else:
            census.closed("idle")
            self._close()

    def _keeps_up(self) -> bool:
        """Return whether a body has brought enough since the last look."""
        bounds = self._server.bounds
        return self._reader.progress() >= bounds.min_body_rate * bounds.header_timeout

    def _next_share(self) -> float:
        return self._server.clock + self._server.bounds.header_timeout

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
        if refusal.why != "connections":
            self._server.census.refused(refusal.why)
        self._refusal = refusal.answer()
        if self._current is None:
            self._send_refusal()

    def _send_refusal(self) -> None:
        if self._transport is not None:
            self._out.queue(self._refusal)
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
        self.deadline = self._server.clock + self._server.bounds.send_timeout
        self._transport.close()

    def _forget(self, *, keep_transport: bool = False) -> None:
        """Answer nothing any more."""
        self._ended = True
        self._current = None
        self._pipelined = None
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
_PLAIN = (True, b"", False)
_PLAIN_HEAD = (True, b"", True)
_CONNECTION = {True: b"Connection: keep-alive\r\n", False: b"Connection: close\r\n"}
