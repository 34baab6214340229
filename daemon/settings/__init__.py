"""The daemon's settings, read once from the environment (behaviour §14)."""

from daemon.settings.loading import default_state_dir, ignored, load
from daemon.settings.readers import parse_listen, parse_size, processors
from daemon.settings.secrets import MAX_SECRET_BYTES, read_secrets, without_secrets
from daemon.settings.values import (
    Address,
    Settings,
    SettingsError,
    TcpAddress,
    UnixAddress,
    Variable,
)
from daemon.settings.variables import LOG_LEVELS, MODES, NOT_YET, VARIABLES

__all__ = [
    "LOG_LEVELS",
    "MAX_SECRET_BYTES",
    "MODES",
    "NOT_YET",
    "VARIABLES",
    "Address",
    "Settings",
    "SettingsError",
    "TcpAddress",
    "UnixAddress",
    "Variable",
    "default_state_dir",
    "ignored",
    "load",
    "parse_listen",
    "parse_size",
    "processors",
    "read_secrets",
    "without_secrets",
]
