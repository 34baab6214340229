"""Connections to one upstream, kept and used again.

Rules
- The connection used last is used next; the others go when they have been idle for a while.
- A kept connection that the upstream has closed, or written to, is known to be dead and is not
  used: the socket itself is asked just before. The moment between that look and the request is
  left: connections are given up early, before common servers do it.
- There are never more than so many to one upstream, nor to all together; further calls wait in
  line, as long as it may take to connect. Who leaves the line takes his request with him.
"""

import asyncio
import logging
import os
import ssl
from collections import Counter
from collections.abc import Callable
from typing import cast

from daemon.front.rate_limited_log import RateLimitedLog
from daemon.front.upstream import MAX_HEAD_BYTES, UpstreamConnection
from daemon.front.upstream_caller import Caller, Failure
from daemon.upstream_url import UpstreamUrl

log = logging.getLogger("fairvisor")

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
        "_left",
        "_request",
        "_silence",
        "_started",
        "_timer",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - what to send, to hear of, and to leave
        self,
        request: bytes,
        caller: Caller,
        silence: float,
        *,
        headless: bool,
        uploaded: bool,
        left: Callable[["Call"], None],
    ) -> None:
        self._left = left
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
            self._leave()
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
        if not self._started:
            self._leave()

    def _leave(self) -> None:
        self._request, self._body = b"", []
        self._left(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


_WORDS: dict[Failure, str] = {
    "unanswered": "closed a connection without an answer",
    "timeout": "did not answer in time (FAIRVISOR_UPSTREAM_TIMEOUT)",
    "broken": "gave an answer that broke off, or that is none",
}


class Budget:
    """How many connections there may be to one upstream and to all, and how that went.

    `max_head` bounds a response's head, in bytes.
    """

    __slots__ = ("each", "failures", "max_head", "opened", "total", "waited")

    def __init__(self, each: int, total: int, max_head: int = MAX_HEAD_BYTES) -> None:
        self.each = each
        self.total = total
        self.max_head = max_head
        self.opened = 0
        self.waited = 0
        """Calls that could not even begin to connect."""
        self.failures: Counter[Failure] = Counter()
        """Requests that had no whole answer."""


Calling = Call | UpstreamConnection


class Pool:
    """The connections to one upstream. Times in seconds."""

    def __init__(  # noqa: PLR0913 - where, within which bounds, and who is told
        self,
        upstream: UpstreamUrl,
        connect_timeout: float,
        tls: Callable[[], ssl.SSLContext],
        budget: Budget,
        warn: Callable[[UpstreamUrl, str], None] = lambda _upstream, _why: None,
        roomy: Callable[[], None] = lambda: None,
    ) -> None:
        self._roomy = roomy
        self._warn = warn
        self._upstream = upstream
        self._connect_timeout = connect_timeout
        self._tls = tls
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._idle: list[UpstreamConnection] = []
        self._open = 0
        self._line: dict[Call, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping = False

    def send(
        self, request: bytes, caller: Caller, silence: float, *, headless: bool, uploaded: bool
    ) -> Calling:
        """Begin a call on a kept connection if there is one, else on a new one.

        What is returned stands for the call until its caller has heard of its end.
        """
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_fresh:
                connection.start(request, caller, silence, headless=headless, uploaded=uploaded)
                return connection
            connection.cancel()
        call = Call(
            request, caller, silence, headless=headless, uploaded=uploaded, left=self._out_of_line
        )
        call.expect_within(self._connect_timeout, self._loop)
        self._line[call] = None
        if not self._connect_more():
            self._budget.waited += 1
        return call

    def _out_of_line(self, call: Call) -> None:
        self._line.pop(call, None)

    def close(self) -> None:
        """Close what is idle."""
        for connection in self._idle:
            connection.cancel()
        self._idle.clear()

    def _connect_more(self) -> bool:
        """Begin another connection if a call waits for one and there may be one more."""
        budget = self._budget
        room = self._open < budget.each and budget.opened < budget.total
        if room and self._line:
            self._open += 1
            budget.opened += 1
            task = self._loop.create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return room

    def use_room(self) -> None:
        """Take a connection that another upstream has no use for any more."""
        self._connect_more()

    async def _connect(self) -> None:
        upstream = self._upstream
        failure: Failure = "unreachable"
        factory = cast("Callable[[], asyncio.Protocol]", self._connection)
        try:
            async with asyncio.timeout(self._connect_timeout):
                if upstream.socket:
                    _, made = await self._loop.create_unix_connection(factory, upstream.socket)
                else:
                    _, made = await self._loop.create_connection(
                        factory,
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
            self._freed(cast("UpstreamConnection", made))
            return
        self._gone()
        call = self._next()
        if call is not None:
            call.fail(failure)

    def _connection(self) -> UpstreamConnection:
        return UpstreamConnection(self._freed, self._lost, self._loop, self._budget.max_head)

    def _next(self) -> Call | None:
        call = next(iter(self._line), None)
        if call is not None:
            del self._line[call]
        return call

    def _freed(self, connection: UpstreamConnection) -> None:
        if self._line and (call := self._next()) is not None:
            call.begin(connection)
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(IDLE_SECONDS / 2, self._sweep)

    def _lost(self, connection: UpstreamConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        self._gone()

    def _gone(self) -> None:
        """Count a connection out, and let those who wait have its place."""
        self._open -= 1
        self._budget.opened -= 1
        if self._line:
            self._connect_more()
        else:
            self._roomy()

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
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)
    # A handshake with what speaks no TLS ends without a word.
    return str(error) or f"the connection was closed ({type(error).__name__})"


class Pools:
    """One pool per upstream, made when it is first asked. `connect_timeout` in seconds."""

    def __init__(self, connect_timeout: float, budget: Budget) -> None:
        self.budget = budget
        self._connect_timeout = connect_timeout
        self._pools: dict[UpstreamUrl, Pool] = {}
        self._context: ssl.SSLContext | None = None
        self._log = RateLimitedLog(log)

    def pool(self, upstream: UpstreamUrl) -> Pool:
        """Return the pool of an upstream."""
        pool = self._pools.get(upstream)
        if pool is None:
            pool = Pool(
                upstream,
                self._connect_timeout,
                self._tls,
                self.budget,
                warn=self._warn,
                roomy=self._share,
            )
            self._pools[upstream] = pool
        return pool

    def _share(self) -> None:
        """Let a pool whose calls wait have the place that another has given up."""
        for pool in self._pools.values():
            pool.use_room()

    def close(self) -> None:
        """Close what is idle everywhere."""
        for pool in self._pools.values():
            pool.close()

    def _warn(self, upstream: UpstreamUrl, why: str) -> None:
        self._say("unreachable", upstream, f"cannot be reached: {why}")

    def failed(self, upstream: UpstreamUrl, failure: Failure) -> None:
        """Count a request that had no whole answer, and say so once a minute."""
        self.budget.failures[failure] += 1
        if failure != "unreachable":  # of that the cause has been told
            self._say(failure, upstream, _WORDS[failure])

    def _say(self, kind: str, upstream: UpstreamUrl, words: str) -> None:
        now = asyncio.get_running_loop().time()
        self._log.say(kind, str(upstream), now, logging.WARNING, "upstream %s %s", upstream, words)

    def _tls(self) -> ssl.SSLContext:
        # Reading the system's certificates takes 20 ms: once, and only where they are needed.
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context
