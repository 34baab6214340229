"""The settings as typed values: what the daemon is told at its start."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from daemon.admin_socket import AdminSocket
from daemon.upstream_url import UpstreamUrl

Durability = Literal["memory", "crash", "power"]
LogLevel = Literal["debug", "info", "notice", "warning", "error", "critical", "alert", "emerg"]


class SettingsError(ValueError):
    """A variable is missing or wrong; the message is one line that names it."""


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP listener."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix-socket listener."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, typed. Times in seconds, sizes in bytes. Secrets do not print."""

    mode: str
    config_file: str | None
    listen: tuple[Address, ...]
    envoy_listen: Address | None
    """Where Envoy asks over gRPC; None if it does not."""
    trusted_proxies: str
    worker_processes: int
    shards: int
    owner_timeout: float
    link_queue: int
    link_buffer: int
    reservation_ttl: float
    max_reservations: int
    max_key_chars: int
    max_body_bytes: int
    max_head_bytes: int
    max_body_memory: int
    max_header_fields: int
    max_pipelined: int
    max_connections: int
    max_connections_per_peer: int
    backlog: int
    header_timeout: float
    min_body_rate: int
    send_timeout: float
    idle_timeout: float
    file_poll_interval: float
    watchdog: float
    """How long a child process may be silent; 0 = for ever."""
    counter_memory: int
    max_series: int
    record_queue: int
    max_usage_bytes: int
    state_dir: Path | None
    """Where counters are stored; None keeps them in memory only."""
    durability: Durability
    log_level: LogLevel
    llm_format: str
    geoip_file: str | None
    tor_exits_file: str | None
    backend: UpstreamUrl | None
    wrapper_auth: str
    strip_request_headers: str
    upstream_connect_timeout: float
    upstream_timeout: float
    upstream_max_connections: int
    upstream_max_total: int
    upstream_max_head_bytes: int
    admin_socket: AdminSocket
    provider_urls: Mapping[str, UpstreamUrl]
    """Where each provider of wrapper mode is, overrides applied."""
    signing_key: bytes | None = field(default=None, repr=False)
    debug_session_secret: bytes | None = field(default=None, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Every secret that is set, by its variable."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: the setting it fills, its default text, and its reader.

    `secret`: its value may also stand in a file. `modes`: those that use it; none named: all.
    """

    name: str
    setting: str
    default: str | None
    meaning: str
    read: Callable[[str], object]
    secret: bool = False
    modes: tuple[str, ...] = ()
