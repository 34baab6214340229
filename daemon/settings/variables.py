"""Every environment variable of the daemon, one row each (behaviour §14).

`--help`, `docs/settings.md` and the example of `fairvisor init` are made from these rows.
"""

from collections.abc import Mapping

from daemon.admin_socket import DEFAULT as DEFAULT_ADMIN_SOCKET
from daemon.admin_socket import VARIABLE as ADMIN_SOCKET
from daemon.settings.readers import (
    between,
    count,
    milliseconds,
    one_of,
    parse_address,
    parse_listen,
    parse_size,
    positive,
    processes,
    processors,
    seconds_or_none,
    state_path,
)
from daemon.settings.values import Durability, LogLevel, Variable
from daemon.upstream_url import parse_upstream_url
from protocol.placement import FEWEST_KEY_CHARS, MAX_KEY_CHARS, MOST_KEY_CHARS

DURABILITIES: tuple[Durability, ...] = ("memory", "crash", "power")
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
PROXIES = ("reverse_proxy", "wrapper", "hybrid")
"""The modes that call upstreams."""
WRAPPERS = ("wrapper", "hybrid")
"""The modes that call providers by their names."""

VARIABLES: tuple[Variable, ...] = (
    Variable("FAIRVISOR_MODE", "mode", "decision_service", "what the daemon is", one_of(*MODES)),
    Variable("FAIRVISOR_CONFIG_FILE", "config_file", None, "path of the policy bundle", str),
    Variable(
        "FAIRVISOR_LISTEN",
        "listen",
        "127.0.0.1:8080",
        "comma list of host:port, [ipv6]:port and unix:/path; :port alone is on every IPv4 address",
        parse_listen,
    ),
    Variable(
        "FAIRVISOR_ENVOY_LISTEN",
        "envoy_listen",
        None,
        "host:port or unix:/path where Envoy asks over gRPC; needs pip install 'fairvisor[envoy]'",
        parse_address,
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
        processes(processors),
    ),
    Variable(
        "FAIRVISOR_SHARDS",
        "shards",
        "auto",
        "number of shard processes (counters); auto = one per four processors",
        processes(lambda: max(1, processors() // 4)),
    ),
    Variable(
        "FAIRVISOR_OWNER_TIMEOUT_MS",
        "owner_timeout",
        "50",
        "milliseconds a front waits for a shard before a rule's on_error decides",
        milliseconds,
    ),
    Variable(
        "FAIRVISOR_LINK_QUEUE",
        "link_queue",
        "16384",
        "requests of a front process that may wait for one shard; for more, on_error decides"
        " at once",
        count,
    ),
    Variable(
        "FAIRVISOR_LINK_BUFFER",
        "link_buffer",
        "16m",
        "bytes of requests that a shard may leave unread; then on_error decides at once",
        parse_size,
    ),
    Variable(
        "FAIRVISOR_RESERVATION_TTL",
        "reservation_ttl",
        "3600",
        "seconds a reservation can be settled",
        positive,
    ),
    Variable(
        "FAIRVISOR_MAX_RESERVATIONS",
        "max_reservations",
        "250000",
        "reservations of a shard that may wait for settlement; for more, the oldest stay charged",
        count,
    ),
    Variable(
        "FAIRVISOR_MAX_KEY_CHARS",
        "max_key_chars",
        str(MAX_KEY_CHARS),
        f"characters of a counter's limit keys that are kept as they are, {FEWEST_KEY_CHARS} to"
        f" {MOST_KEY_CHARS}; of longer ones a digest is",
        between(FEWEST_KEY_CHARS, MOST_KEY_CHARS),
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
        "FAIRVISOR_MAX_BODY_MEMORY",
        "max_body_memory",
        "256m",
        "request bodies held at the same time per front process; the next one is answered 503",
        parse_size,
    ),
    Variable(
        "FAIRVISOR_MAX_HEADER_FIELDS",
        "max_header_fields",
        "128",
        "header lines of a request; more are answered 431",
        count,
    ),
    Variable(
        "FAIRVISOR_MAX_PIPELINED",
        "max_pipelined",
        "64",
        "requests of one connection that may wait for their turn; the next one is answered 400",
        count,
    ),
    Variable(
        "FAIRVISOR_MAX_CONNECTIONS",
        "max_connections",
        "16384",
        "open client connections per listener and front process; the next one is answered 503",
        count,
    ),
    Variable(
        "FAIRVISOR_MAX_CONNECTIONS_PER_PEER",
        "max_connections_per_peer",
        "1024",
        "as before, of one IPv4 address or IPv6 /64 that is not a trusted proxy",
        count,
    ),
    Variable(
        "FAIRVISOR_BACKLOG",
        "backlog",
        "1024",
        "connections per listener that the system keeps waiting to be taken",
        count,
    ),
    Variable(
        "FAIRVISOR_HEADER_TIMEOUT",
        "header_timeout",
        "10",
        "seconds a client has to send a request's head, and after that each further share of its"
        " body",
        positive,
    ),
    Variable(
        "FAIRVISOR_MIN_BODY_RATE",
        "min_body_rate",
        "1k",
        "bytes a second that a body must bring; a share is this times FAIRVISOR_HEADER_TIMEOUT",
        parse_size,
    ),
    Variable(
        "FAIRVISOR_SEND_TIMEOUT",
        "send_timeout",
        "60",
        "seconds a client may leave more than 64 KiB of its answer unread",
        positive,
    ),
    Variable(
        "FAIRVISOR_IDLE_TIMEOUT",
        "idle_timeout",
        "75",
        "seconds a kept-alive connection may be idle",
        positive,
    ),
    Variable(
        "FAIRVISOR_FILE_POLL_INTERVAL",
        "file_poll_interval",
        "5",
        "seconds between looks at the bundle file",
        positive,
    ),
    Variable(
        "FAIRVISOR_WATCHDOG_SECONDS",
        "watchdog",
        "10",
        "seconds after which a process of the daemon that does not answer the supervisor is"
        " replaced; none = never",
        seconds_or_none,
    ),
    Variable(
        "FAIRVISOR_SHARED_DICT_SIZE",
        "counter_memory",
        "128m",
        "memory for counters, all shards together",
        parse_size,
    ),
    Variable(
        "FAIRVISOR_MAX_SERIES",
        "max_series",
        "10000",
        "series of a metric per front process; what is beyond counts under the label other",
        count,
    ),
    Variable(
        "FAIRVISOR_RECORD_QUEUE",
        "record_queue",
        "10000",
        "decision records per front process that may wait to be written; more are dropped",
        count,
    ),
    Variable(
        "FAIRVISOR_STATE_DIR",
        "state_dir",
        None,
        "folder for counters and reservations; none = memory only. Without it"
        " /var/lib/fairvisor if that can be written, else fairvisor in the user's state folder",
        state_path,
    ),
    Variable(
        "FAIRVISOR_DURABILITY",
        "durability",
        "crash",
        "what counters survive: memory (nothing), crash (a killed process), power (a power cut)",
        one_of(*DURABILITIES),
    ),
    Variable("FAIRVISOR_LOG_LEVEL", "log_level", "info", "debug … emerg", one_of(*LOG_LEVELS)),
    Variable(
        "FAIRVISOR_LLM_FORMAT",
        "llm_format",
        "",
        "wire format behind this daemon: usage, settlement and cut-off; openai, anthropic, gemini",
        one_of("openai", "anthropic", "gemini"),
    ),
    Variable(
        "FAIRVISOR_MAX_USAGE_BYTES",
        "max_usage_bytes",
        "1m",
        "bytes of a proxied answer that is no stream, kept to read its usage; of a longer one the"
        " estimate stays charged",
        parse_size,
        modes=PROXIES,
    ),
    Variable(
        "FAIRVISOR_BACKEND_URL",
        "backend",
        None,
        "upstream of mode reverse_proxy: http://…, https://… or unix:/path",
        parse_upstream_url,
        modes=("reverse_proxy",),
    ),
    Variable(
        "FAIRVISOR_WRAPPER_AUTH",
        "wrapper_auth",
        "composite",
        "credentials of mode wrapper: composite (CLIENT_JWT:UPSTREAM_KEY) or passthrough",
        one_of("composite", "passthrough"),
        modes=WRAPPERS,
    ),
    Variable(
        "FAIRVISOR_STRIP_REQUEST_HEADERS",
        "strip_request_headers",
        "",
        "comma list of request headers that do not go upstream",
        str,
        modes=PROXIES,
    ),
    Variable(
        "FAIRVISOR_UPSTREAM_CONNECT_TIMEOUT",
        "upstream_connect_timeout",
        "5",
        "seconds to connect to an upstream; then 504",
        positive,
        modes=PROXIES,
    ),
    Variable(
        "FAIRVISOR_UPSTREAM_TIMEOUT",
        "upstream_timeout",
        "300",
        "seconds an upstream may be silent, before its answer (then 504) or within it",
        positive,
        modes=PROXIES,
    ),
    Variable(
        "FAIRVISOR_UPSTREAM_MAX_CONNECTIONS",
        "upstream_max_connections",
        "4096",
        "connections to one upstream per front process; for more, requests wait as long as for a"
        " connection, then 504",
        count,
        modes=PROXIES,
    ),
    Variable(
        "FAIRVISOR_UPSTREAM_MAX_TOTAL",
        "upstream_max_total",
        "8192",
        "as before, to all upstreams together",
        count,
        modes=PROXIES,
    ),
    Variable(
        "FAIRVISOR_UPSTREAM_MAX_HEAD_BYTES",
        "upstream_max_head_bytes",
        "64k",
        "size of an upstream's status line with its headers; a longer one is answered 502",
        parse_size,
        modes=PROXIES,
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
        secret=True,
    ),
    Variable(
        "FAIRVISOR_DEBUG_SESSION_SECRET",
        "debug_session_secret",
        None,
        "opens debug sessions, whose answers explain themselves; without it there are none",
        str.encode,
        secret=True,
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
