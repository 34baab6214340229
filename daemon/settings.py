"""The daemon's settings, read once from the environment (behaviour §14).

Every variable is one row of `VARIABLES`: its default, what it means, how it is read. `--help` and
the docs are made from the same rows.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from daemon.admin_socket import DEFAULT as DEFAULT_ADMIN_SOCKET
from daemon.admin_socket import VARIABLE as ADMIN_SOCKET
from daemon.admin_socket import AdminSocket, admin_socket
from daemon.llm.providers import PROVIDERS
from daemon.upstream_url import UpstreamUrl, parse_upstream_url

Durability = Literal["memory", "crash", "power"]
DURABILITIES: tuple[Durability, ...] = ("memory", "crash", "power")
SYSTEM_STATE = Path("/var/lib/fairvisor")
LogLevel = Literal["debug", "info", "notice", "warning", "error", "critical", "alert", "emerg"]
LOG_LEVELS: tuple[LogLevel, ...] = (
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emerg",
)
MODES = ("decision_service", "reverse_proxy", "wrapper", "hybrid")
_SUN_PATH_MAX = 107
_PORT_MAX = 65_535
_MAX_PROCESSES = 64


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
    trusted_proxies: str
    worker_processes: int
    shards: int
    owner_timeout: float
    reservation_ttl: float
    max_body_bytes: int
    max_head_bytes: int
    max_connections: int
    header_timeout: float
    idle_timeout: float
    file_poll_interval: float
    counter_memory: int
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
    admin_socket: AdminSocket
    provider_urls: Mapping[str, UpstreamUrl]
    """Where each provider of wrapper mode is, overrides applied."""
    signing_key: bytes | None = field(default=None, repr=False)
    debug_session_secret: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: the setting it fills, its default text, and its reader."""

    name: str
    setting: str
    default: str | None
    meaning: str
    read: Callable[[str], object]


def load(environ: Mapping[str, str]) -> Settings:
    """Return the settings that `environ` describes.

    Raises:
        SettingsError: a variable's text cannot be read; the message names it and the fix.
    """
    values: dict[str, object] = {}
    for variable in VARIABLES:
        text = environ.get(variable.name, "").strip()
        if not text:
            text = variable.default or ""
        if not text:
            values[variable.setting] = None if variable.default is None else ""
            continue
        try:
            values[variable.setting] = variable.read(text)
        except ValueError as error:
            raise SettingsError(f"{variable.name}: {error}") from None
    if values["mode"] == "reverse_proxy" and values["backend"] is None:
        raise SettingsError(
            "FAIRVISOR_BACKEND_URL is not set: mode reverse_proxy needs it, "
            "for example http://127.0.0.1:9000"
        )
    values["state_dir"] = _state_dir(environ, values["state_dir"], values["durability"])
    values["provider_urls"] = _provider_urls(environ)
    try:
        values["admin_socket"] = admin_socket(environ)
    except ValueError as error:
        raise SettingsError(f"{ADMIN_SOCKET}: {error}") from None
    return Settings(**values)  # type: ignore[arg-type]  # VARIABLES names Settings' own fields


def _state_dir(environ: Mapping[str, str], chosen: object, durability: object) -> Path | None:
    """Return the state folder, with what memory only means for it resolved.

    Raises:
        SettingsError: `power` was asked for without any folder.
    """
    if chosen == "none" and durability == "power":
        raise SettingsError(
            "FAIRVISOR_DURABILITY: power needs a folder to store counters in: "
            "set FAIRVISOR_STATE_DIR to one instead of none"
        )
    if chosen == "none" or durability == "memory":
        return None
    return Path(str(chosen)) if chosen else default_state_dir(environ)


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """Return the system's state folder if this user may write there, else the user's own."""
    place = SYSTEM_STATE if SYSTEM_STATE.exists() else SYSTEM_STATE.parent
    if os.access(place, os.W_OK):
        return SYSTEM_STATE
    base = environ.get("XDG_STATE_HOME", "").strip()
    if not base.startswith("/"):
        base = str(Path(environ.get("HOME", "").strip() or "~").expanduser() / ".local/state")
    return Path(base) / "fairvisor"


def _state_path(text: str) -> str:
    if text != "none" and not text.startswith("/"):
        raise ValueError(f"'{text}' must be an absolute path, or none for memory only")
    return text


def _provider_urls(environ: Mapping[str, str]) -> dict[str, UpstreamUrl]:
    urls = {}
    for provider in PROVIDERS.values():
        text = environ.get(provider.override, "").strip() or provider.base_url
        try:
            urls[provider.name] = parse_upstream_url(text)
        except ValueError as error:
            raise SettingsError(f"{provider.override}: {error}") from None
    return urls


def parse_listen(text: str) -> tuple[Address, ...]:
    """Return the listeners of a comma list of `host:port`, `[v6]:port` and `unix:/path`.

    Raises:
        ValueError: an entry is not an address; the message names it and the fix.
    """
    addresses = tuple(_address(part.strip()) for part in text.split(",") if part.strip())
    if not addresses:
        raise ValueError("needs at least one host:port or unix:/path")
    if len(set(addresses)) != len(addresses):
        raise ValueError(f"names the same address twice: {text}")
    return addresses


def _address(text: str) -> Address:
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or len(os.fsencode(path)) > _SUN_PATH_MAX:
            raise ValueError(
                f"'{text}' needs an absolute path of at most {_SUN_PATH_MAX} bytes after unix:"
            )
        return UnixAddress(path)
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > _PORT_MAX:
        raise ValueError(f"'{text}' is not host:port, [ipv6]:port or unix:/path")
    host = host.removeprefix("[").removesuffix("]") or "0.0.0.0"  # noqa: S104 - ":8080" says so
    if host != "localhost":
        try:
            ip_address(host)
        except ValueError:
            raise ValueError(f"'{text}' needs an IP address or localhost before the port") from None
    return TcpAddress(host, int(port))


def parse_size(text: str) -> int:
    """Return bytes from `1048576`, `512k`, `128m` or `2g`.

    Raises:
        ValueError: not such a size, or not positive.
    """
    scale = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}.get(text[-1].lower(), 1)
    digits = text[:-1] if scale > 1 else text
    if not digits.isascii() or not digits.isdigit() or int(digits) == 0:
        raise ValueError(f"'{text}' is not a size such as 10485760, 512k, 128m or 2g")
    return int(digits) * scale


def processors() -> int:
    """Return the number of processors this process may run on."""
    return len(os.sched_getaffinity(0))


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a number") from None
    if not 0 < number < float("inf"):
        raise ValueError(f"'{text}' must be greater than 0")
    return number


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise ValueError(f"'{text}' is not a positive whole number")
    return int(text)


def _processes(auto: Callable[[], int]) -> Callable[[str], int]:
    def read(text: str) -> int:
        if text == "auto":
            return min(auto(), _MAX_PROCESSES)
        number = _count(text)
        if number > _MAX_PROCESSES:
            raise ValueError(f"'{text}' is more than {_MAX_PROCESSES} processes")
        return number

    return read


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"'{text}' must be one of {', '.join(choices)}")
        return text

    return read


def _milliseconds(text: str) -> float:
    return _positive(text) / 1000


VARIABLES: tuple[Variable, ...] = (
    Variable("FAIRVISOR_MODE", "mode", "decision_service", "what the daemon is", _one_of(*MODES)),
    Variable("FAIRVISOR_CONFIG_FILE", "config_file", None, "path of the policy bundle", str),
    Variable(
        "FAIRVISOR_LISTEN",
        "listen",
        "127.0.0.1:8080",
        "comma list of host:port, [ipv6]:port and unix:/path",
        parse_listen,
    ),
    Variable(
        "FAIRVISOR_TRUSTED_PROXIES",
        "trusted_proxies",
        "127.0.0.0/8,::1/128",
        "comma list of networks whose X-Forwarded-* and X-Original-* count; * = all",
        str,
    ),
    Variable(
        "FAIRVISOR_WORKER_PROCESSES",
        "worker_processes",
        "auto",
        "number of front processes (HTTP); auto = one per processor",
        _processes(processors),
    ),
    Variable(
        "FAIRVISOR_SHARDS",
        "shards",
        "auto",
        "number of shard processes (counters); auto = one per four processors",
        _processes(lambda: max(1, processors() // 4)),
    ),
    Variable(
        "FAIRVISOR_OWNER_TIMEOUT_MS",
        "owner_timeout",
        "50",
        "milliseconds a front waits for a shard before a rule's on_error decides",
        _milliseconds,
    ),
    Variable(
        "FAIRVISOR_RESERVATION_TTL",
        "reservation_ttl",
        "3600",
        "seconds a reservation can be settled",
        _positive,
    ),
    Variable(
        "FAIRVISOR_MAX_BODY_BYTES",
        "max_body_bytes",
        "10485760",
        "request body bytes that are read; more is not looked at",
        parse_size,
    ),
    Variable(
        "FAIRVISOR_MAX_HEAD_BYTES",
        "max_head_bytes",
        "32k",
        "size of a request line with its headers; a longer one is answered 431",
        parse_size,
    ),
    Variable(
        "FAIRVISOR_MAX_CONNECTIONS",
        "max_connections",
        "16384",
        "open client connections per front process; the next one is answered 503",
        _count,
    ),
    Variable(
        "FAIRVISOR_HEADER_TIMEOUT",
        "header_timeout",
        "10",
        "seconds a client has to send a request, head and body",
        _positive,
    ),
    Variable(
        "FAIRVISOR_IDLE_TIMEOUT",
        "idle_timeout",
        "75",
        "seconds a kept-alive connection may be idle",
        _positive,
    ),
    Variable(
        "FAIRVISOR_FILE_POLL_INTERVAL",
        "file_poll_interval",
        "5",
        "seconds between looks at the bundle file",
        _positive,
    ),
    Variable(
        "FAIRVISOR_SHARED_DICT_SIZE",
        "counter_memory",
        "128m",
        "memory for counters, all shards together",
        parse_size,
    ),
    Variable(
        "FAIRVISOR_STATE_DIR",
        "state_dir",
        None,
        "folder for counters and reservations; none = memory only. Without it"
        " /var/lib/fairvisor if that can be written, else fairvisor in the user's state folder",
        _state_path,
    ),
    Variable(
        "FAIRVISOR_DURABILITY",
        "durability",
        "crash",
        "what counters survive: memory (nothing), crash (a killed process), power (a power cut)",
        _one_of(*DURABILITIES),
    ),
    Variable("FAIRVISOR_LOG_LEVEL", "log_level", "info", "debug … emerg", _one_of(*LOG_LEVELS)),
    Variable(
        "FAIRVISOR_LLM_FORMAT",
        "llm_format",
        "",
        "wire format behind this daemon: usage, settlement and cut-off; openai, anthropic, gemini",
        _one_of("openai", "anthropic", "gemini"),
    ),
    Variable(
        "FAIRVISOR_BACKEND_URL",
        "backend",
        None,
        "upstream of mode reverse_proxy: http://…, https://… or unix:/path",
        parse_upstream_url,
    ),
    Variable(
        "FAIRVISOR_WRAPPER_AUTH",
        "wrapper_auth",
        "composite",
        "credentials of mode wrapper: composite (CLIENT_JWT:UPSTREAM_KEY) or passthrough",
        _one_of("composite", "passthrough"),
    ),
    Variable(
        "FAIRVISOR_STRIP_REQUEST_HEADERS",
        "strip_request_headers",
        "",
        "comma list of request headers that do not go upstream",
        str,
    ),
    Variable(
        "FAIRVISOR_UPSTREAM_CONNECT_TIMEOUT",
        "upstream_connect_timeout",
        "5",
        "seconds to connect to an upstream; then 504",
        _positive,
    ),
    Variable(
        "FAIRVISOR_UPSTREAM_TIMEOUT",
        "upstream_timeout",
        "300",
        "seconds an upstream may be silent, before its answer (then 504) or within it",
        _positive,
    ),
    Variable(
        ADMIN_SOCKET,
        "admin_socket",
        DEFAULT_ADMIN_SOCKET,
        "path of the admin socket (mode 0600), or none; if the default cannot be had, "
        "$XDG_RUNTIME_DIR/fairvisor/admin.sock, and without that a warning",
        str,
    ),
    Variable(
        "FAIRVISOR_GEOIP_FILE", "geoip_file", None, "MaxMind country database for ip:country", str
    ),
    Variable(
        "FAIRVISOR_TOR_EXITS_FILE", "tor_exits_file", None, "list of Tor exits for ip:tor", str
    ),
    Variable(
        "FAIRVISOR_BUNDLE_SIGNING_KEY",
        "signing_key",
        None,
        "key of signed bundles; with it, unsigned ones are refused",
        str.encode,
    ),
    Variable(
        "FAIRVISOR_DEBUG_SESSION_SECRET",
        "debug_session_secret",
        None,
        "opens debug sessions, whose answers explain themselves; without it there are none",
        str.encode,
    ),
)

NOT_YET: Mapping[str, tuple[str, ...]] = {
    "FAIRVISOR_STORE": ("local",),
    "FAIRVISOR_SAAS_URL": (),
    "FAIRVISOR_EDGE_ID": (),
    "FAIRVISOR_EDGE_TOKEN": (),
    "FAIRVISOR_CONFIG_POLL_INTERVAL": (),
    "FAIRVISOR_HEARTBEAT_INTERVAL": (),
    "FAIRVISOR_EVENT_FLUSH_INTERVAL": (),
}
"""Variables of the specification that this version does not act on, with values that it honours."""

_ELSEWHERE = (
    "FAIRVISOR_EDGE_URL",
    "FAIRVISOR_NON_INTERACTIVE",
    "FAIRVISOR_VENV",
    "FAIRVISOR_VECTORS",
)
_OVERRIDES = frozenset(provider.override for provider in PROVIDERS.values())
_PREFIX = "FAIRVISOR_"
_UPSTREAM_HEADER = _PREFIX + "UPSTREAM_HEADER_"


def ignored(environ: Mapping[str, str]) -> list[str]:
    """Return one line for each variable that is set and changes nothing."""
    known = {variable.name for variable in VARIABLES}
    lines = []
    for name in sorted(name for name in environ if name.startswith(_PREFIX)):
        if name in known or name in _ELSEWHERE or not environ[name].strip():
            continue
        if name.startswith(_UPSTREAM_HEADER) or name in _OVERRIDES:
            continue
        if name not in NOT_YET:
            near = get_close_matches(name, known, n=1, cutoff=0.8)
            hint = f"; did you mean {near[0]}?" if near else ""
            lines.append(f"{name} is not a setting and is ignored{hint}")
        elif NOT_YET[name] and environ[name].strip() not in NOT_YET[name]:
            lines.append(f"{name} is ignored: this version keeps counters on one host")
    return lines
