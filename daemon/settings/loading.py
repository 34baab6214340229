"""Read the settings from an environment, and tell which variables change nothing."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from daemon.admin_socket import VARIABLE as ADMIN_SOCKET
from daemon.admin_socket import admin_socket
from daemon.llm.providers import PROVIDERS
from daemon.settings.secrets import UPSTREAM_HEADER, read_secrets, secret_of_file
from daemon.settings.values import Settings, SettingsError
from daemon.settings.variables import MODES, NOT_YET, PROXIES, VARIABLES, WRAPPERS
from daemon.upstream_url import UpstreamUrl, parse_upstream_url

SYSTEM_STATE = Path("/var/lib/fairvisor")
_ELSEWHERE = (
    "FAIRVISOR_EDGE_URL",
    "FAIRVISOR_NON_INTERACTIVE",
    "FAIRVISOR_VENV",
    "FAIRVISOR_VECTORS",
)
_OVERRIDES = frozenset(provider.override for provider in PROVIDERS.values())
_PREFIX = "FAIRVISOR_"
_ASKED = ("decision_service", "hybrid")
"""The modes that answer gateways."""


def load(environ: Mapping[str, str]) -> Settings:
    """Return the settings that `environ`, and the files of secrets that it names, describe.

    Raises:
        SettingsError: a variable's text cannot be read; the message names it and the fix.
    """
    secrets = read_secrets(environ)
    environ = {**environ, **secrets}
    values: dict[str, object] = {"secrets": secrets}
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
            reason = "is not UTF-8 text" if variable.secret else error
            raise SettingsError(f"{variable.name}: {reason}") from None
    if values["mode"] == "reverse_proxy" and values["backend"] is None:
        raise SettingsError(
            "FAIRVISOR_BACKEND_URL is not set: mode reverse_proxy needs it, "
            "for example http://127.0.0.1:9000"
        )
    if values["envoy_listen"] is not None and values["mode"] not in _ASKED:
        raise SettingsError(
            f"FAIRVISOR_ENVOY_LISTEN: in mode {values['mode']} no gateway asks; "
            f"it needs FAIRVISOR_MODE {' or '.join(_ASKED)}"
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


def _provider_urls(environ: Mapping[str, str]) -> dict[str, UpstreamUrl]:
    urls = {}
    for provider in PROVIDERS.values():
        text = environ.get(provider.override, "").strip() or provider.base_url
        try:
            urls[provider.name] = parse_upstream_url(text)
        except ValueError as error:
            raise SettingsError(f"{provider.override}: {error}") from None
    return urls


def ignored(environ: Mapping[str, str]) -> list[str]:
    """Return one line for each variable that is set and changes nothing."""
    known = {variable.name for variable in VARIABLES}
    mode = environ.get("FAIRVISOR_MODE", "").strip() or MODES[0]
    lines = []
    for name in sorted(name for name in environ if name.startswith(_PREFIX)):
        setting = secret_of_file(name) or name
        if name in _ELSEWHERE or not environ[name].strip():
            continue
        modes = _modes(setting)
        if modes:
            if mode not in modes:
                needs = " or ".join(modes)
                lines.append(f"{name} is ignored in mode {mode}: it needs FAIRVISOR_MODE={needs}")
        elif setting not in NOT_YET:
            near = get_close_matches(name, known, n=1, cutoff=0.8)
            hint = f"; did you mean {near[0]}?" if near else ""
            lines.append(f"{name} is not a setting and is ignored{hint}")
        elif environ[name].strip() not in NOT_YET[setting]:
            lacks = "keeps counters on one host" if NOT_YET[setting] else "has no control plane"
            lines.append(f"{name} is ignored: this version {lacks}")
    return lines


def _modes(setting: str) -> tuple[str, ...]:
    """Return the modes that use a setting; none for what is no setting."""
    if setting.startswith(UPSTREAM_HEADER):
        return PROXIES
    if setting in _OVERRIDES:
        return WRAPPERS
    return next((each.modes or MODES for each in VARIABLES if each.name == setting), ())
