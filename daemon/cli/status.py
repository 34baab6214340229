"""`fairvisor status`: readiness and a few metrics of a running daemon (§9.2, §15, §16)."""

import json
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import click

from daemon.cli.command import Command
from daemon.cli.edge import fetch, samples
from daemon.cli.exits import FAILURE, OK, RemoteFailure

_ANSWERS = (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE)


@click.command(
    cls=Command,
    short_help="Ask a running daemon how it is.",
    epilog="Example: fairvisor status --edge-url http://127.0.0.1:8080 --format=json",
)
@click.option(
    "--edge-url",
    envvar="FAIRVISOR_EDGE_URL",
    default="http://localhost:8080",
    show_default=True,
    show_envvar=True,
    help="Where the daemon listens.",
)
@click.option(
    "--format", "shape", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def status(edge_url: str, shape: str) -> int:
    """Print readiness, policy version, control plane and number of decisions of a running daemon.

    Exit code 0 if it is ready, 1 if it is not, 2 if it cannot be reached.
    """
    try:
        parts = urlsplit(edge_url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise click.BadParameter("must look like http://host:port", param_hint="--edge-url")
    found = ask(edge_url.rstrip("/"))
    if shape == "json":
        click.echo(json.dumps(found))
    else:
        reason = f" ({found['reason']})" if "reason" in found else ""
        version = found["policy_version"]
        click.echo(f"Status: {found['status']}{reason}")
        click.echo(f"Policy version: {'none' if version is None else version}")
        click.echo(f"SaaS: {found['saas']}")
        click.echo(f"Decisions: {found['decisions']}")
    return OK if found["status"] == "ok" else FAILURE


def ask(base: str) -> dict[str, Any]:
    """Return what the daemon behind a base URL says of itself.

    Raises:
        RemoteFailure: it cannot be reached, or does not answer as fairvisor does.
    """
    code, text = fetch(f"{base}/readyz")
    try:
        ready = json.loads(text)
    except (ValueError, RecursionError):
        ready = None
    if code not in _ANSWERS or not isinstance(ready, dict) or "status" not in ready:
        raise RemoteFailure(f"{base}/readyz answers {code}, but not as fairvisor does")
    code, metrics = fetch(f"{base}/metrics")
    if code != HTTPStatus.OK:
        raise RemoteFailure(f"{base}/metrics answers {code}")
    found = {
        "status": str(ready["status"]),
        "policy_version": ready.get("policy_version"),
        "saas": _control_plane(metrics),
        "decisions": round(sum(samples(metrics, "fairvisor_decisions_total"))),
    }
    if "reason" in ready:
        found["reason"] = str(ready["reason"])
    return found


def _control_plane(metrics: str) -> str:
    if any(samples(metrics, "fairvisor_saas_reachable")):
        return "connected"
    asked = any(samples(metrics, "fairvisor_saas_calls_total"))
    return "disconnected" if asked else "not configured"
