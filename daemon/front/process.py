"""A front process: wires listeners, links and engine together and obeys the supervisor."""

import asyncio
import logging
import os
import signal
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial

import uvloop
from setproctitle import setproctitle

from daemon.engine.client_address import TrustedProxies
from daemon.engine.engine import Engine
from daemon.engine.learned import LearnedCompletions
from daemon.engine.limit_keys import LimitKeys
from daemon.engine.sources import Sources
from daemon.front import descriptors, files
from daemon.front.answered import Lifeline
from daemon.front.app import App
from daemon.front.census import ClientCensus
from daemon.front.clock import now_us
from daemon.front.control_socket import ControlSocket
from daemon.front.debug import DebugSessions
from daemon.front.garbage import settle_garbage
from daemon.front.links import Link
from daemon.front.orders import Orders
from daemon.front.peers import PeerCounts
from daemon.front.proxy.app import ProxyApp
from daemon.front.proxy.heads import RequestHeads
from daemon.front.proxy.route import ProxyConfig
from daemon.front.proxy.surroundings import Surroundings
from daemon.front.random_ids import RandomIds
from daemon.front.rate_limited_log import RateLimitedLog
from daemon.front.recorder import Recorder
from daemon.front.records import RecordWriter
from daemon.front.scrapes import Scrapes
from daemon.front.server import GRACE_SECONDS, Server
from daemon.front.settler import Settler
from daemon.front.surroundings import Doors
from daemon.front.tally import Tally
from daemon.front.unforeseen import tell_by_place
from daemon.front.upstream_headers import injected_headers, parse_strip_list
from daemon.front.upstream_pool import Budget, Pools
from daemon.llm.builtin_prices import BuiltinPrices, flatten
from daemon.settings import Settings
from daemon.stderr_log import start_logging
from protocol import control
from protocol.bundle_text import load
from protocol.frames import pack

log = logging.getLogger("fairvisor")

DRAIN_SECONDS = 35.0
RETIRE_SECONDS = 3600.0
"""What is under way when the program is replaced may take this long: nobody waits for it."""
HOLD_SECONDS = 30.0
_POLL_SECONDS = 0.005
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


def run(role: Role, settings: Settings, orders: Orders) -> None:
    """Serve until told to drain, or until the supervisor is gone."""
    setproctitle("fairvisor: envoy" if role.envoy else f"fairvisor: front {role.index}")
    start_logging(settings.log_level)
    # The supervisor alone decides when a child goes; a terminal's or a service manager's signal to
    # the whole group must not cut requests off.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(_Front(role, settings, orders).serve())


@cache
def prices() -> BuiltinPrices:
    """Return the built-in price table as of this process's start."""
    return flatten(datetime.now(UTC))


class _Front:
    """The process's parts and their life."""

    def __init__(self, role: Role, settings: Settings, orders: Orders) -> None:
        self._role = role
        self._settings = settings
        self._jitter_key = orders.jitter_key
        self._patience = orders.patience
        self._loop: asyncio.AbstractEventLoop
        self._control: asyncio.Transport
        self._scrapes = Scrapes(partial(self._tell, control.SCRAPE))
        self._learned = LearnedCompletions()
        self._keys = LimitKeys(settings.max_key_chars)
        self._ids = RandomIds()
        self._prepared: dict[int, tuple[Engine, str]] = {}
        self._stopped = asyncio.Event()

    async def serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        tell_by_place(self._loop)
        settings, role = self._settings, self._role
        trusted = TrustedProxies.parse(settings.trusted_proxies)
        self._trusted = trusted
        lifeline = Lifeline()
        links = [
            Link(
                shard,
                path,
                settings.owner_timeout,
                now_us,
                lifeline,
                queue=settings.link_queue,
                buffer=settings.link_buffer,
            )
            for shard, path in enumerate(role.shard_paths)
        ]
        for link in links:
            link.start()
        self._tally = Tally(settings.max_series)
        self._writer = RecordWriter(STDOUT, self._loop.call_later, max_lines=settings.record_queue)
        secret = settings.debug_session_secret
        quiet = RateLimitedLog(log)
        self._app = App(
            links,
            self._tally,
            Recorder(
                self._writer,
                quiet,
                self._tally,
                everything=settings.log_level == "debug",
            ),
            self._scrapes.take,
            settings.mode,
            DebugSessions(secret) if secret else None,
        )
        self._upstreams = Budget(0, 0)
        self._proxy = self._behind(links)
        most_bodies = max(settings.max_body_memory, settings.max_body_bytes)
        self._census = ClientCensus(self._tally, quiet, self._loop.time, most_bodies)
        self._doors = self._open_doors()
        await self._attach()
        await self._stopped.wait()
        self._writer.close(FLUSH_SECONDS)
        for link in links:
            link.stop()

    def _open_doors(self) -> list[tuple[Doors, tuple[int, ...]]]:
        """Return a server for each listener, so that a full one leaves the others alone."""
        settings, role = self._settings, self._role
        if role.envoy:
            from daemon.front.envoy.server import EnvoyServer  # noqa: PLC0415 - an optional extra

            return [(EnvoyServer(self._app, settings, self._trusted.trusts, role.envoy), ())]
        room = descriptors.front_room(settings, len(role.listen_fds))
        peers = PeerCounts(settings.max_connections_per_peer)
        doors = partial(
            Server,
            self._proxy or self._app,
            settings,
            self._trusted,
            self._census,
            peers,
            max_connections=min(settings.max_connections, room.clients),
            max_turned_away=room.turned_away,
        )
        return [(doors(), (fd,)) for fd in role.listen_fds]

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
        inject = injected_headers(settings.secrets)
        app = self._app
        settler = Settler(links, self._loop.call_later, app.ledger.settled)
        room = descriptors.front_room(settings, len(self._role.listen_fds))
        self._upstreams = Budget(
            settings.upstream_max_connections,
            min(settings.upstream_max_total, room.upstream),
            settings.upstream_max_head_bytes,
        )
        pools = Pools(settings.upstream_connect_timeout, self._upstreams)
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
                settings.max_usage_bytes,
            ),
        )

    async def _attach(self) -> None:
        pair = socket.socket(fileno=self._role.control_fd)
        pair.settimeout(0)
        await self._loop.create_unix_connection(partial(ControlSocket, self), sock=pair)

    def attached(self, transport: asyncio.Transport) -> None:
        """Take the way to the supervisor."""
        self._control = transport

    def _tell(self, *message: object) -> None:
        with suppress(RuntimeError):  # the supervisor is gone; so shall we be
            self._control.write(pack(message))

    def hear(self, message: list[object]) -> None:
        """Do what the supervisor says."""
        match message:
            case [control.BUNDLE, int(generation), bytes(text), str(loaded_at), dict(jwks)]:
                self._prepare(generation, text, loaded_at, jwks)
            case [control.SWITCH, int(generation)]:
                self._switch(generation)
            case [control.COLLECT, int(number)]:
                self._tell(control.TALLY, number, self._snapshot())
            case [control.METRICS, int(number), bytes(text)]:
                self._scrapes.answered(number, text)
            case [control.READINESS, str(reason)]:
                self._app.unready = reason
            case _:
                self._go_on(message)

    def _go_on(self, message: list[object]) -> None:
        match message:
            case [control.PING]:
                self._tell(control.PONG)
            case [control.RETIRE]:
                self._loop.create_task(self._retire())
            case [control.DRAIN]:
                self._loop.create_task(self._drain(DRAIN_SECONDS))

    def _prepare(
        self, generation: int, text: bytes, loaded_at: str, jwks: dict[str, bytes]
    ) -> None:
        # The supervisor judged these bytes when they were loaded; expiry is not judged again.
        report = load(text, now=0.0, signing_key=self._settings.signing_key)
        if report.bundle is None:
            raise RuntimeError("the supervisor sent an invalid bundle")
        sources = Sources(
            draw_id=self._ids.draw,
            shards=len(self._role.shard_paths),
            trusted=self._trusted,
            jitter_key=self._jitter_key,
            jwks=jwks,
            country=files.country_lookup(self._settings.geoip_file),
            tor_exits=files.tor_exits(self._settings.tor_exits_file),
            llm_format=self._settings.llm_format,
            proxies=self._proxy is not None,
            learned=self._learned,
            keys=self._keys,
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
        with suppress(TimeoutError):  # serve degraded rather than not at all
            async with asyncio.timeout(self._patience):
                for link in self._app.links:
                    await link.connected()
        try:
            for doors, fds in self._doors:
                sockets = [socket.socket(fileno=fd) for fd in fds]
                await doors.listen(sockets, self._settings.backlog)
        except OSError as error:  # nobody else would hear of it
            self.die(control.last_line(str(error)))
        self._tell(control.READY)

    async def _retire(self) -> None:
        """Drain, and tell when no decision is waited for: the shards may then be replaced."""
        drained = self._loop.create_task(self._drain(RETIRE_SECONDS))
        await asyncio.wait([drained], timeout=GRACE_SECONDS)
        while not all(link.quiet for link in self._app.links):  # noqa: ASYNC110 - for many reasons
            await asyncio.sleep(_POLL_SECONDS)
        for link in self._app.links:
            link.hold(HOLD_SECONDS)
        self._tell(control.RETIRED)
        await drained

    async def _drain(self, seconds: float) -> None:
        self._app.draining = True
        await asyncio.gather(*[doors.drain(seconds) for doors, _ in self._doors])
        if self._proxy is not None:
            await self._proxy.settled(SETTLE_SECONDS)
        self._tell(control.TALLY, 0, self._snapshot())
        self._stopped.set()

    def _snapshot(self) -> list[object]:
        self._tally.put("records_dropped_total", self._writer.dropped)
        self._tally.put("connections", sum(doors.connections for doors, _ in self._doors))
        self._tally.put("request_body_bytes", self._census.bodies)
        self._tally.put("keys_digested_total", self._keys.digested)
        losses = sum((link.losses for link in self._app.links), Counter())
        self._tally.put("upstream_connections", self._upstreams.opened)
        self._tally.put("upstream_waits_total", self._upstreams.waited)
        for failure, count in self._upstreams.failures.items():
            self._tally.put("upstream_failures_total", count, (failure,))
        for link in self._app.links:
            for why, count in link.failures.items():
                self._tally.put("owner_unavailable_total", count, (str(link.shard), why))
        for kind, count in losses.items():
            self._tally.put("charges_unconfirmed_total", count, (kind,))
        return self._tally.snapshot(now_us())

    def die(self, words: bytes) -> None:
        """Tell the supervisor why and end at once."""
        os.write(self._role.control_fd, words)
        os._exit(1)

    def orphaned(self) -> None:
        """End at once: without a supervisor nobody would restart or stop this process.

        Not by way of its links: whoever waits for a shard would be told that the shard is gone.
        """
        if not self._stopped.is_set():
            os._exit(1)
