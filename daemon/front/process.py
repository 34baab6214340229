"""A front process: wires listeners, links and engine together and obeys the supervisor."""

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial

import uvloop
from setproctitle import setproctitle

from daemon.engine.client_address import TrustedProxies
from daemon.engine.engine import Engine
from daemon.engine.learned import LearnedCompletions
from daemon.engine.sources import Sources
from daemon.front import files
from daemon.front.app import App, now_us
from daemon.front.debug import DebugSessions
from daemon.front.garbage import settle_garbage
from daemon.front.links import Link
from daemon.front.proxy.app import ProxyApp
from daemon.front.proxy.heads import RequestHeads
from daemon.front.proxy.route import ProxyConfig
from daemon.front.proxy.surroundings import Surroundings
from daemon.front.rate_limited_log import RateLimitedLog
from daemon.front.recorder import Recorder
from daemon.front.records import RecordWriter
from daemon.front.server import Server
from daemon.front.settler import Settler
from daemon.front.surroundings import Doors
from daemon.front.tally import Tally
from daemon.front.upstream_headers import injected_headers, parse_strip_list
from daemon.front.upstream_pool import Pools
from daemon.llm.builtin_prices import BuiltinPrices, flatten
from daemon.settings import Settings
from daemon.stderr_log import start_logging
from protocol import control
from protocol.bundle_text import load
from protocol.frames import FrameReader, pack

log = logging.getLogger("fairvisor")

DRAIN_SECONDS = 35.0
FLUSH_SECONDS = 1.0
SETTLE_SECONDS = 1.0
STDOUT = 1


@dataclass(frozen=True, slots=True)
class Role:
    """What the supervisor gave this front: its number, its descriptors, where the shards are.

    With `envoy`, an address, it has no listeners, and answers Envoy's gRPC there.
    """

    index: int
    control_fd: int
    listen_fds: tuple[int, ...]
    shard_paths: tuple[str, ...]
    envoy: str = ""


def run(role: Role, settings: Settings) -> None:
    """Serve until told to drain, or until the supervisor is gone."""
    setproctitle("fairvisor: envoy" if role.envoy else f"fairvisor: front {role.index}")
    start_logging(settings.log_level)
    # The supervisor alone decides when a child goes; a terminal's or a service manager's signal to
    # the whole group must not cut requests off.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(_Front(role, settings).serve())


@cache
def prices() -> BuiltinPrices:
    """Return the built-in price table as of this process's start."""
    return flatten(datetime.now(UTC))


class _Front:
    """The process's parts and their life."""

    def __init__(self, role: Role, settings: Settings) -> None:
        self._role = role
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop
        self._control: asyncio.Transport
        self._pending: dict[int, Callable[[bytes], None]] = {}
        self._scrapes = 0
        self._learned = LearnedCompletions()
        self._prepared: dict[int, tuple[Engine, str]] = {}
        self._stopped = asyncio.Event()

    async def serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        settings, role = self._settings, self._role
        trusted = TrustedProxies.parse(settings.trusted_proxies)
        self._trusted = trusted
        links = [
            Link(shard, path, settings.owner_timeout, now_us)
            for shard, path in enumerate(role.shard_paths)
        ]
        for link in links:
            link.start()
        self._tally = Tally()
        self._writer = RecordWriter(STDOUT, self._loop.call_later)
        secret = settings.debug_session_secret
        self._app = App(
            links,
            self._tally,
            Recorder(
                self._writer,
                RateLimitedLog(log),
                self._tally,
                everything=settings.log_level == "debug",
            ),
            self._scrape,
            settings.mode,
            DebugSessions(secret) if secret else None,
        )
        turned_away = partial(self._tally.add, "connections_refused_total")
        self._proxy = self._behind(links)
        if role.envoy:
            from daemon.front.envoy.server import EnvoyServer  # noqa: PLC0415 - an optional extra

            doors: Doors = EnvoyServer(self._app, settings, trusted.trusts, role.envoy)
        else:
            app = self._proxy or self._app
            doors = Server(app, settings, trusted, settings.max_connections, turned_away)
        self._server = doors
        await self._attach()
        await self._stopped.wait()
        self._writer.close(FLUSH_SECONDS)
        for link in links:
            link.stop()

    def _behind(self, links: list[Link]) -> ProxyApp | None:
        """Return the proxy in front of the decision API, None where there is none."""
        settings = self._settings
        if settings.mode == "decision_service":
            return None
        config = ProxyConfig(
            mode=settings.mode,
            backend=settings.backend,
            llm_format=settings.llm_format,
            providers=settings.provider_urls,
            passthrough=settings.wrapper_auth == "passthrough",
        )
        strip = parse_strip_list(settings.strip_request_headers)
        inject = injected_headers(os.environ)
        app = self._app
        settler = Settler(links, self._loop.call_later, app.ledger.settled)
        pools = Pools(settings.upstream_connect_timeout)
        return ProxyApp(
            app,
            Surroundings(
                config,
                RequestHeads(strip, inject, plain=False),
                RequestHeads(strip, inject, plain=True),
                pools,
                settings.upstream_timeout,
                settler,
                app.ledger.truncated,
            ),
        )

    async def _attach(self) -> None:
        pair = socket.socket(fileno=self._role.control_fd)
        pair.settimeout(0)
        await self._loop.create_unix_connection(partial(_Control, self), sock=pair)

    def attached(self, transport: asyncio.Transport) -> None:
        """Take the way to the supervisor."""
        self._control = transport

    def _scrape(self, callback: Callable[[bytes], None]) -> None:
        self._scrapes += 1
        self._pending[self._scrapes] = callback
        self._tell(control.SCRAPE, self._scrapes)

    def _tell(self, *message: object) -> None:
        with suppress(RuntimeError):  # the supervisor is gone; so shall we be
            self._control.write(pack(message))

    def hear(self, message: list[object]) -> None:
        """Do what the supervisor says."""
        match message:
            case [control.CONFIGURE, {"jitter_key": bytes(jitter_key)}]:
                self._jitter_key = jitter_key
            case [control.BUNDLE, int(generation), bytes(text), str(loaded_at), dict(jwks)]:
                self._prepare(generation, text, loaded_at, jwks)
            case [control.SWITCH, int(generation)]:
                self._switch(generation)
            case [control.COLLECT, int(number)]:
                self._tell(control.TALLY, number, self._snapshot())
            case [control.METRICS, int(number), bytes(text)]:
                callback = self._pending.pop(number, None)
                if callback is not None:
                    callback(text)
            case [control.DRAIN]:
                self._loop.create_task(self._drain())

    def _prepare(
        self, generation: int, text: bytes, loaded_at: str, jwks: dict[str, bytes]
    ) -> None:
        # The supervisor judged these bytes when they were loaded; expiry is not judged again.
        report = load(text, now=0.0, signing_key=self._settings.signing_key)
        if report.bundle is None:
            raise RuntimeError(f"supervisor sent an invalid bundle: {report.errors}")
        sources = Sources(
            draw_id=lambda: secrets.token_bytes(16),
            shards=len(self._role.shard_paths),
            trusted=self._trusted,
            jitter_key=self._jitter_key,
            jwks=jwks,
            country=files.country_lookup(self._settings.geoip_file),
            tor_exits=files.tor_exits(self._settings.tor_exits_file),
            llm_format=self._settings.llm_format,
            proxies=self._proxy is not None,
            learned=self._learned,
            prices=prices,
        )
        self._prepared[generation] = (Engine(report.bundle, sources, generation), loaded_at)
        self._tell(control.PREPARED, generation)

    def _switch(self, generation: int) -> None:
        engine, loaded_at = self._prepared.pop(generation)
        first = self._app.engine is None
        self._app.engine, self._app.loaded_at = engine, loaded_at
        self._tally.forget_gauges()
        # What was prepared before this one and never switched to has been given up.
        self._prepared = {n: each for n, each in self._prepared.items() if n > generation}
        settle_garbage()
        if first:
            self._loop.create_task(self._open())
        self._tell(control.SWITCHED, generation)

    async def _open(self) -> None:
        for link in self._app.links:
            with suppress(TimeoutError):  # serve degraded rather than not at all
                await asyncio.wait_for(link.connected(), timeout=1.0)
        try:
            await self._server.listen([socket.socket(fileno=fd) for fd in self._role.listen_fds])
        except OSError as error:  # nobody else would hear of it
            self.die(control.last_line(str(error)))
        self._tell(control.READY)

    async def _drain(self) -> None:
        self._app.draining = True
        await self._server.drain(DRAIN_SECONDS)
        if self._proxy is not None:
            await self._proxy.settled(SETTLE_SECONDS)
        self._tell(control.TALLY, 0, self._snapshot())
        self._stopped.set()

    def _snapshot(self) -> list[object]:
        self._tally.put("records_dropped_total", self._writer.dropped)
        losses = sum((link.losses for link in self._app.links), Counter())
        for kind, count in losses.items():
            self._tally.put("charges_unconfirmed_total", count, (kind,))
        return self._tally.snapshot(now_us())

    def die(self, words: bytes) -> None:
        """Tell the supervisor why and end at once."""
        os.write(self._role.control_fd, words)
        os._exit(1)

    def orphaned(self) -> None:
        """End at once: without a supervisor nobody would restart or stop this process."""
        self._stopped.set()


class _Control(asyncio.Protocol):
    """The supervisor's side of the socket pair."""

    def __init__(self, front: _Front) -> None:
        self._front = front
        self._reader = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._front.attached(transport)  # type: ignore[arg-type]  # a stream's transport

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._reader.feed(data):
                self._front.hear(message)
        except Exception as error:  # noqa: BLE001 - the last thing this process does
            # A front that does not do as it is told must be replaced, not linger half switched.
            self._front.die(control.last_words(error))

    def connection_lost(self, _error: Exception | None) -> None:
        self._front.orphaned()
