"""`fairvisor serve`: run the daemon in the foreground."""

import logging
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import click
import uvloop

from daemon.cli.command import Command
from daemon.cli.start_check import check_start, would_start
from daemon.engine.client_address import TrustedProxies
from daemon.front.descriptors import front_room, raise_limit
from daemon.front.files import LookupFileError, country_lookup, tor_exits
from daemon.front.upstream_headers import injected_headers
from daemon.settings import VARIABLES, Settings, SettingsError, ignored, load
from daemon.stderr_log import start_logging
from daemon.supervisor import handover
from daemon.supervisor.bundles import BundleError, Loaded, read_bundle
from daemon.supervisor.handover import Handover, HandoverError
from daemon.supervisor.listeners import ListenError
from daemon.supervisor.process import Supervisor
from shard.stores.folder import StateError

_FEW_CONNECTIONS = 1024
"""Room for fewer than these is told also to who did not ask for more."""

GRPC_MODULES = (
    "grpc.aio",
    "envoy.service.auth.v3.external_auth_pb2",
    "envoy.service.ratelimit.v3.rls_pb2",
)
"""What the extra `fairvisor[envoy]` brings."""


def _variables() -> str:
    rows = [f"  {each.name}={each.default or ''}\n      {each.meaning}" for each in VARIABLES]
    return "\b\nSettings come from the environment:\n" + "\n".join([*rows, _SECRETS])


_SECRETS = """  FAIRVISOR_UPSTREAM_HEADER_<Name>=
      sets a header of requests to upstreams

\b
Secrets can stand in files: add _FILE to the variable's name, or use systemd's LoadCredential=
with the variable's name."""


@click.command(
    cls=Command,
    short_help="Run the daemon in the foreground.",
    epilog=_variables(),
)
@click.option(
    "--check",
    is_flag=True,
    help="Only tell whether the daemon could start, and as what; a running one is left alone.",
)
def serve(*, check: bool) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C.

    Example: FAIRVISOR_CONFIG_FILE=policy.json fairvisor serve
    """
    try:
        left = handover.take(os.environ)
        settings = load(os.environ)
        _check_headers(settings)
        start_logging(settings.log_level)
        loaded = _bundle(settings) if left is None else _bundle_of(left, settings)
        _check_readable("FAIRVISOR_GEOIP_FILE", settings.geoip_file)
        _check_readable("FAIRVISOR_TOR_EXITS_FILE", settings.tor_exits_file)
        country_lookup(settings.geoip_file)
        tor_exits(settings.tor_exits_file)
        _check_proxies(settings)
        _check_grpc(settings)
        if check:
            found = check_start(settings, inherited=left is not None)
    except (SettingsError, LookupFileError, HandoverError, StateError, ListenError) as error:
        fail(str(error))
    except BundleError as error:
        for problem in error.problems:
            click.echo(f"fairvisor: {error.path}: {problem.path}: {problem.message}", err=True)
        sys.exit(1)
    log = logging.getLogger("fairvisor")
    for line in ignored(os.environ):
        log.warning("%s", line)
    _make_room(settings)
    for warning in loaded.warnings:
        log.warning("%s: %s: %s", settings.config_file, warning.path, warning.message)
    if check:
        if found.warning:
            log.warning("%s", found.warning)
        click.echo(would_start(settings, loaded.bundle, found))
        return
    sys.exit(uvloop.run(Supervisor(settings, loaded, left).run()))


def _make_room(settings: Settings) -> None:
    files = raise_limit()
    clients = front_room(settings, len(settings.listen)).clients
    chosen = bool(os.environ.get("FAIRVISOR_MAX_CONNECTIONS", "").strip())
    if clients < (settings.max_connections if chosen else _FEW_CONNECTIONS):
        logging.getLogger("fairvisor").warning(
            "FAIRVISOR_MAX_CONNECTIONS is %d, but the limit of %d open files (ulimit -Hn, or"
            " LimitNOFILE of the unit) leaves room for %d connections per listener",
            settings.max_connections,
            files,
            clients,
        )


def _check_headers(settings: Settings) -> None:
    try:
        injected_headers(settings.secrets)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _check_readable(variable: str, path: str | None) -> None:
    if path is None:
        return
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise SettingsError(f"{variable}: {path} cannot be read: {reason}") from None


def _bundle(settings: Settings) -> Loaded:
    if settings.config_file is None:
        raise SettingsError(
            "FAIRVISOR_CONFIG_FILE is not set: run `fairvisor init` to write a policy.json, "
            "then set FAIRVISOR_CONFIG_FILE=policy.json"
        )
    return read_bundle(settings.config_file, now=time.time(), signing_key=settings.signing_key)


def _bundle_of(left: Handover, settings: Settings) -> Loaded:
    found, problems = handover.loaded(left.bundle, settings.signing_key)
    if found is None:
        raise BundleError("the bundle that serves", tuple(problems))
    return found


def _check_proxies(settings: Settings) -> None:
    # The fronts read the networks; here they would only be found to be wrong one by one.
    try:
        TrustedProxies.parse(settings.trusted_proxies)
    except ValueError as error:
        raise SettingsError(f"FAIRVISOR_TRUSTED_PROXIES: {error}") from None


def _check_grpc(settings: Settings) -> None:
    if settings.envoy_listen is None:
        return
    try:  # another package may own the names `grpc` and `envoy`
        found = all(find_spec(name) for name in GRPC_MODULES)
    except ImportError:
        found = False
    if not found:
        raise SettingsError(
            "FAIRVISOR_ENVOY_LISTEN needs gRPC, which is not installed: "
            "run pip install 'fairvisor[envoy]', or unset it and let Envoy ask over HTTP"
        )


def fail(message: str) -> None:
    """End with one line on standard error and exit code 1."""
    click.echo(f"fairvisor: {message}", err=True)
    sys.exit(1)
