"""`fairvisor gateway`: the configuration that makes a gateway ask this daemon (§20)."""

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import as_file, files
from math import ceil
from pathlib import Path

import click

from adapters.catalogue import GATEWAYS, Gateway, find
from adapters.template import fill
from daemon import settings
from daemon.cli.command import Command
from daemon.cli.exits import Failure
from daemon.cli.gateway_bundle import LONGEST_DELAY_MS, headers_read, longest_delay, read_bundle
from daemon.settings import Address, Settings, SettingsError, TcpAddress, UnixAddress
from daemon.upstream_url import UpstreamUrl, parse_upstream_url

LAST_PORT = 65_535
_VARIABLES = {"http": "FAIRVISOR_LISTEN", "grpc": "FAIRVISOR_ENVOY_LISTEN"}
_PLAIN = re.compile(r"[\w.:/\[\]+~-]+", re.ASCII)
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a listener may say


def _names() -> str:
    wide = max(len(each.name) for each in GATEWAYS)
    return "\n".join(f"{each.name:<{wide}}  {each.about}" for each in GATEWAYS)


@click.command(
    cls=Command,
    short_help="Print the configuration of a gateway that asks this daemon.",
    epilog="Example: fairvisor gateway nginx --upstream=http://127.0.0.1:9000",
)
@click.argument("name", required=False)
@click.option(
    "--upstream",
    default="http://127.0.0.1:9000",
    show_default=True,
    help="Where the gateway forwards to: http://host:port.",
)
@click.option(
    "--listen",
    default="127.0.0.1:8000",
    show_default=True,
    help="Where the gateway listens: host:port.",
)
@click.option(
    "--daemon",
    "reached",
    help="How the gateway reaches the daemon: host:port or unix:/path, for clouds also a URL.  "
    "[default: the Unix socket of FAIRVISOR_LISTEN, else its first address; over gRPC "
    "FAIRVISOR_ENVOY_LISTEN]",
)
@click.option(
    "--on-failure",
    default="closed",
    show_default=True,
    help="While the daemon does not answer: refuse (closed), pass (open), or pass reads only "
    "(reads-open).",
)
@click.option(
    "--timeout",
    type=click.IntRange(1, 60_000),
    default=500,
    show_default=True,
    help="Milliseconds to wait for the daemon.",
)
@click.option(
    "--longest-delay",
    "delay_asked",
    type=click.IntRange(0, LONGEST_DELAY_MS),
    help="Milliseconds that a throttle may hold a request back.  [default: the longest of the "
    "bundle in FAIRVISOR_CONFIG_FILE]",
)
@click.option("--write", type=click.Path(), help="Write all files into this folder instead.")
def gateway(  # noqa: PLR0913 - one argument an option
    name: str | None,
    upstream: str,
    listen: str,
    reached: str | None,
    on_failure: str,
    timeout: int,
    delay_asked: int | None,
    write: str | None,
) -> None:
    """Print the configuration that makes the gateway NAME ask this daemon; without NAME, list them.

    Addresses come from the settings in the environment, delays from the bundle they name.
    """
    if name is None:
        click.echo(_names())
        return
    chosen = _chosen(name)
    if on_failure not in chosen.on_failure:
        raise click.BadParameter(
            f"{name} can only be {' or '.join(chosen.on_failure)}, not '{on_failure}'",
            param_hint="--on-failure",
        )
    try:
        loaded = settings.load(settings.without_secrets(os.environ))
    except SettingsError as error:
        raise Failure(str(error)) from None
    daemon, way = _reached(chosen, reached, loaded)
    delay = 0 if chosen.waits else _delay(delay_asked, loaded)
    values = {
        **daemon,
        **_reading_values(chosen, loaded),
        **_listen_values(listen),
        **_upstream_values(upstream),
        **_timeout_values(timeout, timeout + delay),
    }
    words = {on_failure, way, *chosen.words}
    if write is not None:
        _check_plain(str(Path(write).absolute()), "--write")
        _write(chosen, Path(write), values, words)
        return
    folder = files(f"adapters.{chosen.folder}")
    with as_file(folder) as path:
        values["folder"] = str(path)
    click.echo(fill(_text(chosen, chosen.template), values, words), nl=False)


def _chosen(name: str) -> Gateway:
    found = find(name)
    if found is None:
        near = get_close_matches(name, [each.name for each in GATEWAYS], n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise click.BadParameter(
            f"no gateway '{name}'; {hint}`fairvisor gateway` lists them", param_hint="NAME"
        )
    return found


def _reached(chosen: Gateway, reached: str | None, loaded: Settings) -> tuple[dict[str, str], str]:
    """Return the values that say where the daemon is, and the word for the way there."""
    if chosen.remote and reached is not None and "://" in reached:
        _check_plain(reached, "--daemon")
        try:
            url = parse_upstream_url(reached)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--daemon") from None
        if url.base_path:
            raise click.BadParameter("must be a URL without a path", param_hint="--daemon")
        return {"daemon_url": reached.rstrip("/")}, "tcp"
    address = _daemon(chosen, reached, loaded)
    _check_plain(str(address), _VARIABLES[chosen.asks] if reached is None else "--daemon")
    return _address_values(address), "unix" if isinstance(address, UnixAddress) else "tcp"


def _daemon(chosen: Gateway, reached: str | None, loaded: Settings) -> Address:
    """Return where the gateway finds the daemon."""
    if reached is not None:
        address = _one_address(reached, "--daemon")
        if isinstance(address, UnixAddress) and not chosen.unix:
            raise click.BadParameter(
                f"{chosen.name} cannot ask over a Unix socket; name a host:port",
                param_hint="--daemon",
            )
        return address
    addresses = loaded.listen
    if chosen.asks == "grpc":
        addresses = () if loaded.envoy_listen is None else (loaded.envoy_listen,)
    sockets = [each for each in addresses if isinstance(each, UnixAddress)]
    if sockets and chosen.unix:
        return sockets[0]
    for address in addresses:
        if isinstance(address, TcpAddress) and address.port:
            return TcpAddress(_ANYWHERE.get(address.host, address.host), address.port)
    if not addresses:
        raise Failure(
            "FAIRVISOR_ENVOY_LISTEN is not set, so that the daemon answers no gRPC; "
            "set it for both, for example to unix:/run/fairvisor/envoy.sock, or use --daemon"
        )
    raise Failure(
        f"{_VARIABLES[chosen.asks]} names no address that a gateway could be told; "
        "set it, or use --daemon=host:port"
    )


def _delay(asked: int | None, loaded: Settings) -> int:
    """Return the longest delay in milliseconds that a decision may come with."""
    if asked is not None:
        return asked
    bundle = read_bundle(loaded)
    return 0 if bundle is None else longest_delay(bundle)


def _reading_values(chosen: Gateway, loaded: Settings) -> dict[str, str]:
    """Return what says how much the daemon reads of a request, and which headers."""
    values = {"max_body_bytes": str(loaded.max_body_bytes)}
    if chosen.name == "envoy-ratelimit":
        entries = [
            f'- request_headers: {{header_name: "{name}", descriptor_key: "{name}", '
            "skip_if_absent: true}"
            for name in headers_read(read_bundle(loaded))
        ]
        values["header_entries"] = ("\n" + " " * 28).join(entries)
    return values


def _one_address(text: str, option: str) -> Address:
    try:
        found = settings.parse_listen(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None
    if len(found) > 1:
        raise click.BadParameter("takes one address", param_hint=option)
    if isinstance(found[0], TcpAddress) and not found[0].port:
        raise click.BadParameter("port 0 is none that can be told", param_hint=option)
    return found[0]


def _check_plain(text: str, option: str) -> None:
    """Refuse what a configuration file would take for the end of a word."""
    if not _PLAIN.fullmatch(text):
        raise click.BadParameter(
            "has characters that configuration files read as their own", param_hint=option
        )


def _address_values(address: Address) -> dict[str, str]:
    if isinstance(address, UnixAddress):
        return {"socket": address.path}
    host = "127.0.0.1" if address.host == "localhost" else address.host  # some cannot resolve names
    address = TcpAddress(host, address.port)
    return {
        "address": str(address),
        "host": host,
        "url_host": str(address).rpartition(":")[0],
        "port": str(address.port),
        "daemon_url": f"http://{address}",
    }


def _listen_values(text: str) -> dict[str, str]:
    address = _one_address(text, "--listen")
    if isinstance(address, UnixAddress):
        raise click.BadParameter("must be host:port", param_hint="--listen")
    return {
        "listen": str(address),
        "listen_host": address.host,
        "listen_port": str(address.port),
        "inner_port": str(_beside(address.port)),
    }


def _beside(port: int) -> int:
    """Return the port of what a gateway asks itself: the next one."""
    return port + 1 if port < LAST_PORT else port - 1


def _upstream_values(text: str) -> dict[str, str]:
    _check_plain(text, "--upstream")
    try:
        url = parse_upstream_url(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--upstream") from None
    if url.tls or url.socket or url.base_path:
        raise click.BadParameter(
            "must be http://host:port; TLS and paths towards your service are yours to configure",
            param_hint="--upstream",
        )
    return {
        "upstream": f"http://{_authority(url)}",
        "upstream_address": _authority(url),
        "upstream_host": url.host,
        "upstream_port": str(url.port),
    }


def _authority(url: UpstreamUrl) -> str:
    return f"[{url.host}]:{url.port}" if ":" in url.host else f"{url.host}:{url.port}"


def _timeout_values(timeout: int, answer: int) -> dict[str, str]:
    return {
        "timeout_ms": str(timeout),
        "timeout_seconds": f"{timeout / 1000:g}",
        "answer_timeout_ms": str(answer),
        "answer_timeout_seconds": f"{answer / 1000:g}",
        "answer_timeout_whole_seconds": str(ceil(answer / 1000)),
    }


def _text(chosen: Gateway, file: str) -> str:
    return files(f"adapters.{chosen.folder}").joinpath(file).read_text("utf-8")


def _write(chosen: Gateway, folder: Path, values: Mapping[str, str], words: set[str]) -> None:
    """Write the configuration and its companions, and say what was written."""
    filled = fill(
        _text(chosen, chosen.template), {**values, "folder": str(folder.absolute())}, words
    )
    texts = {chosen.template: filled, **{each: _text(chosen, each) for each in chosen.companions}}
    for name, text in texts.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise Failure(f"{path}: cannot be written: {os.strerror(error.errno or 0)}") from None
        click.echo(f"Wrote {path}")
