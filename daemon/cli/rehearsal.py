"""What `fairvisor test` needs before it can begin: the bundle and its surroundings on this host."""

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from daemon.cli import files
from daemon.cli.exits import Failure, error, warning
from daemon.engine.client_address import TrustedProxies
from daemon.engine.limit_keys import LimitKeys
from daemon.engine.sources import Sources
from daemon.front.files import LookupFileError, country_lookup, tor_exits
from daemon.llm.builtin_prices import flatten
from daemon.replay import DEFAULT_SHARDS, Replay
from daemon.settings import Settings, SettingsError, load
from daemon.supervisor.bundles import BundleError, Loaded, read_bundle
from protocol.bundle import MICRO, Bundle

_SETTINGS = {
    "FAIRVISOR_TRUSTED_PROXIES",
    "FAIRVISOR_RESERVATION_TTL",
    "FAIRVISOR_MAX_KEY_CHARS",
    "FAIRVISOR_LLM_FORMAT",
    "FAIRVISOR_GEOIP_FILE",
    "FAIRVISOR_TOR_EXITS_FILE",
    "FAIRVISOR_BUNDLE_SIGNING_KEY",
    "FAIRVISOR_BUNDLE_SIGNING_KEY_FILE",
}
"""The variables that decide how a request is judged; a wrong other one is no concern here."""


def settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings that a replay looks at.

    Raises:
        Failure: a variable cannot be read.
    """
    try:
        return load({name: environ[name] for name in _SETTINGS if name in environ})
    except SettingsError as wrong:
        raise Failure(str(wrong)) from None


def bundle_at(path: str, now: int, signing_key: bytes | None) -> Loaded | None:
    """Return the bundle as it would be loaded at `now` (microseconds); None for a bare `null`.

    Raises:
        Failure: it cannot be used; every reason but the last has been printed.
    """
    if files.read(path, files.MAX_BUNDLE_BYTES).strip() == b"null":
        return None
    try:
        loaded = read_bundle(path, now=now / MICRO, signing_key=signing_key)
    except BundleError as invalid:
        *others, last = [f"{path}: {each.path}: {each.message}" for each in invalid.problems]
        for message in others:
            error(message)
        raise Failure(last) from None
    for problem in loaded.warnings:
        warning(f"{path}: {problem.path}: {problem.message}")
    return loaded


def in_shadow(bundle: Bundle) -> Bundle:
    """Return the bundle with every policy in shadow mode (§5.9)."""
    policies = tuple(replace(policy, mode="shadow") for policy in bundle.policies)
    return replace(bundle, policies=policies)


def replay_of(loaded: Loaded | None, *, dry_run: bool) -> tuple[Replay, Sources]:
    """Return the daemon in a box and its surroundings.

    Raises:
        Failure: a setting or a file that it names cannot be used.
    """
    chosen = settings(os.environ)
    try:
        sources = Sources(
            draw_id=_Counter().draw,
            shards=DEFAULT_SHARDS,
            trusted=TrustedProxies.parse(chosen.trusted_proxies),
            jwks=loaded.jwks if loaded else {},
            country=country_lookup(chosen.geoip_file),
            tor_exits=tor_exits(chosen.tor_exits_file),
            llm_format=chosen.llm_format,
            keys=LimitKeys(chosen.max_key_chars),
            prices=lambda: flatten(datetime.now(UTC)),
        )
    except LookupFileError as wrong:
        raise Failure(str(wrong)) from None
    except ValueError as wrong:
        raise Failure(f"FAIRVISOR_TRUSTED_PROXIES: {wrong}") from None
    bundle = loaded.bundle if loaded else None
    if bundle is not None and dry_run:
        bundle = in_shadow(bundle)
    ttl = round(chosen.reservation_ttl * MICRO)
    return Replay(bundle, sources, reservation_ttl=ttl), sources


class _Counter:
    """Reservation ids that are the same in every run: equal input gives equal output."""

    def __init__(self) -> None:
        self._last = 0

    def draw(self) -> bytes:
        self._last += 1
        return self._last.to_bytes(16)
