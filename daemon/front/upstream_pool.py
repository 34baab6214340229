"""Connections to one upstream, kept and used again.

Rules
- The connection used last is used next; the others go when they have been idle for a while.
- A kept connection that the upstream has closed, or written to, is known to be dead and is not
  used: the socket itself is asked just before. The moment between that look and the request is
  left: connections are given up early, before common servers do it.
- There are never more than `MAX_CONNECTIONS`; further calls wait in line, as long as it may take
  to connect.
"""

import asyncio
import logging
import os
import ssl
from collections import deque
from collections.abc import Callable

from daemon.front.rate_limited_log import RateLimitedLog
from daemon.front.upstream import Caller, Failure, UpstreamConnection
from daemon.upstream_url import UpstreamUrl

log = logging.getLogger("fairvisor")

MAX_CONNECTIONS = 4096
"""Per upstream and front process."""
IDLE_SECONDS = 4.0
"""Common servers close idle connections after 5 s (uvicorn, Node.js) or later."""


class Call:
    """One request to an upstream that waits for its connection, or has waited and uses it."""

    __slots__ = (
        "_body",
        "_caller",
        "_cancelled",
        "_connection",
        "_finished",
        "_headless",
        "_request",
        "_silence",
        "_started",
        "_timer",
    )  # fmt: skip

    def __init__(
        self,
        request: bytes,
        caller: Caller,
        silence: float,
        *,
        headless: bool,
        uploaded: bool,
    ) -> None:
        self._request = request
        self._caller = caller
        self._silence = silence
        self._finished = uploaded
        self._body: list[bytes] = []
        self._connection: UpstreamConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._cancelled = False
        self._started = False
        self._headless = headless

    @property
    def waits(self) -> bool:
        """Whether the call has neither a connection nor an end."""
        return not self._started and not self._cancelled

    def begin(self, connection: UpstreamConnection) -> None:
        """Use a connection."""
        self._stop_timer()
        self._started = True
        self._connection = connection
        request = b"".join((self._request, *self._body)) if self._body else self._request
        self._request, self._body = b"", []
        connection.start(
            request, self._caller, self._silence, headless=self._headless, uploaded=self._finished
        )

    def fail(self, failure: Failure) -> None:
        """Give up before there was a connection."""
        if self.waits:
            self._cancelled = True
            self._stop_timer()
            self._caller.upstream_failed(failure)

    def expect_within(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        """Fail unless there is a connection in time."""
        self._timer = loop.call_later(seconds, self.fail, "timeout")

    def write(self, data: bytes) -> None:
        """Send more of the request's body."""
        if self._connection is not None:
            self._connection.write(data)
        elif self.waits:
            self._body.append(data)

    def end_upload(self) -> None:
        """Note that the request is complete."""
        self._finished = True
        if self._connection is not None:
            self._connection.end_upload()

    def pause(self) -> None:
        """Read nothing more of the response for now."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        if self._connection is not None:
            self._connection.resume()

    def conclude(self) -> bool:
        """Hear what the upstream has sent until now and then of the end; False if there is none."""
        return self._connection is not None and self._connection.conclude()

    def cancel(self) -> None:
        """Forget the call, cutting the connection that it uses."""
        if self._connection is not None:
            self._connection.cancel()
        self._cancelled = True
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


Calling = Call | UpstreamConnection


class Pool:
    """The connections to one upstream. Times in seconds."""

    def __init__(
        self,
        upstream: UpstreamUrl,
        connect_timeout: float,
        tls: Callable[[], ssl.SSLContext],
        limit: int = MAX_CONNECTIONS,
        warn: Callable[[UpstreamUrl, str], None] = lambda _upstream, _why: None,
    ) -> None:
        self._warn = warn
        self._upstream = upstream
        self._connect_timeout = connect_timeout
        self._tls = tls
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._idle: list[UpstreamConnection] = []
        self._open = 0
        self._line: deque[Call] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping = False

    def send(
        self, request: bytes, caller: Caller, silence: float, *, headless: bool, uploaded: bool
    ) -> Calling:
        """Begin a call on a kept connection if there is one, else on a new one.

        What is returned stands for the call until its caller has heard of its end.
        """
        connection = self._kept()
        if connection is not None:
            connection.start(request, caller, silence, headless=headless, uploaded=uploaded)
            return connection
        call = Call(request, caller, silence, headless=headless, uploaded=uploaded)
        call.expect_within(self._connect_timeout, self._loop)
        self._line.append(call)
        self._connect_more()
        return call

    def close(self) -> None:
        """Close what is idle."""
        for connection in self._idle:
            connection.cancel()
        self._idle.clear()

    def _kept(self) -> UpstreamConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fresh:
                return connection
            connection.cancel()
        return None

    def _connect_more(self) -> None:
        if self._open < self._limit and self._line:
            self._open += 1
            task = self._loop.create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        upstream = self._upstream
        failure: Failure = "unreachable"
        try:
            async with asyncio.timeout(self._connect_timeout):
                if upstream.socket:
                    _, connection = await self._loop.create_unix_connection(
                        self._connection, upstream.socket
                    )
                else:
                    _, connection = await self._loop.create_connection(
                        self._connection,
                        upstream.host,
                        upstream.port,
                        ssl=self._tls() if upstream.tls else None,
                    )
        except TimeoutError:
            failure = "timeout"
            self._warn(upstream, f"no connection within {self._connect_timeout:g} s")
        except (OSError, ssl.SSLError) as error:
            self._warn(upstream, _reason(error))
        else:
            self._freed(connection)
            return
        self._open -= 1
        call = self._next()
        if call is not None:
            call.fail(failure)

    def _connection(self) -> UpstreamConnection:
        return UpstreamConnection(self._freed, self._lost, self._loop)

    def _next(self) -> Call | None:
        while self._line:
            call = self._line.popleft()
            if call.waits:
                return call
        return None

    def _freed(self, connection: UpstreamConnection) -> None:
        call = self._next()
        if call is not None:
            call.begin(connection)
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(IDLE_SECONDS / 2, self._sweep)

    def _lost(self, connection: UpstreamConnection) -> None:
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        self._connect_more()

    def _sweep(self) -> None:
        overdue = self._loop.time() - IDLE_SECONDS
        # The list is in the order of `idle_since`: what is used last is taken and put last.
        while self._idle and self._idle[0].idle_since <= overdue:
            self._idle.pop(0).cancel()
        self._sweeping = bool(self._idle)
        if self._sweeping:
            self._loop.call_later(IDLE_SECONDS / 2, self._sweep)


def _reason(error: OSError) -> str:
    """Say why there is no connection, and what to do about a certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"its certificate is not accepted: {error.verify_message}"
        return f"{why} (SSL_CERT_FILE names further authorities to trust)"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


class Pools:
    """One pool per upstream, made when it is first asked. `connect_timeout` in seconds."""

    def __init__(self, connect_timeout: float) -> None:
        self._connect_timeout = connect_timeout
        self._pools: dict[UpstreamUrl, Pool] = {}
        self._context: ssl.SSLContext | None = None
        self._log = RateLimitedLog(log)

    def pool(self, upstream: UpstreamUrl) -> Pool:
        """Return the pool of an upstream."""
        pool = self._pools.get(upstream)
        if pool is None:
            pool = Pool(upstream, self._connect_timeout, self._tls, warn=self._warn)
            self._pools[upstream] = pool
        return pool

    def close(self) -> None:
        """Close what is idle everywhere."""
        for pool in self._pools.values():
            pool.close()

    def _warn(self, upstream: UpstreamUrl, why: str) -> None:
        now = asyncio.get_running_loop().time()
        message = "upstream %s cannot be reached: %s"
        self._log.say("upstream", str(upstream), now, logging.WARNING, message, upstream, why)

    def _tls(self) -> ssl.SSLContext:
        # Reading the system's certificates takes 20 ms: once, and only where they are needed.
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context
