"""`fairvisor breaker`: spend circuit breakers of the daemon on this host (§5.8, §17)."""

import json
from http import HTTPStatus
from typing import Any

import click

from daemon.admin_socket import VARIABLE
from daemon.cli.admin import call
from daemon.cli.command import Command, Group
from daemon.cli.exits import Failure, RemoteFailure

_COLUMNS = (("policy", "POLICY"), ("key", "KEY"), ("opened_at", "OPENED"), ("resets_at", "RESETS"))

_socket = click.option(
    "--socket",
    "path",
    envvar=VARIABLE,
    show_envvar=True,
    help="The daemon's admin socket. Without it: /run/fairvisor/admin.sock, then "
    "$XDG_RUNTIME_DIR/fairvisor/admin.sock.",
)
_shape = click.option(
    "--format", "shape", type=click.Choice(["text", "json"]), default="text", show_default=True
)


@click.group(
    cls=Group,
    short_help="List and reset spend circuit breakers.",
    epilog="Example: fairvisor breaker list",
)
def breaker() -> None:
    """List the spend circuit breakers that are open, and reset them by hand.

    Both ask the daemon on this host over its admin socket, which only root and the daemon's user
    may use. Exit code 2 if nobody answers there.
    """


@breaker.command(
    "list",
    cls=Command,
    short_help="List the breakers that are open.",
    epilog="Example: fairvisor breaker list --format=json",
)
@_socket
@_shape
def list_open(path: str | None, shape: str) -> None:
    """List the breakers that are open: policy, key, since when, and when they reset themselves.

    A key is a value of the policy's first limit key. Credentials are shown as digests; `breaker
    reset --key` takes them as they are shown.
    """
    status, rows = call("GET", "/v1/admin/breakers", at=path)
    if status != HTTPStatus.OK or not isinstance(rows, list):
        raise _refused(status, rows)
    if shape == "json":
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo("No breaker is open.")
    else:
        for line in _table(rows):
            click.echo(line)


@breaker.command(
    "reset",
    cls=Command,
    short_help="Close the breakers of a policy by hand.",
    epilog="Example: fairvisor breaker reset --policy chat --key search",
)
@click.option("--policy", required=True, help="Id of the policy.")
@click.option("--key", help="Only the breaker of this value of the policy's first limit key.")
@_socket
@_shape
def reset(policy: str, key: str | None, path: str | None, shape: str) -> None:
    """Close the breakers of a policy and forget what was spent in this minute and the last.

    Breakers that are not open have their rates cleared too; the number is that of breakers which
    were open. Limits and budgets of the policy stay as they are. Exit code 1 if the active bundle
    has no such policy.
    """
    document = {"policy_id": policy} | ({} if key is None else {"key": key})
    status, answer = call("POST", "/v1/admin/breaker/reset", document, at=path)
    if status == HTTPStatus.NOT_FOUND and isinstance(answer, dict):
        raise Failure(f"the active bundle has no policy '{policy}'")
    if status != HTTPStatus.OK or not isinstance(answer, dict) or "reset" not in answer:
        raise _refused(status, answer)
    if shape == "json":
        click.echo(json.dumps(answer))
        return
    number = answer["reset"]
    breakers = "breaker was" if number == 1 else "breakers were"
    click.echo(f"Reset policy '{policy}': {number} {breakers} open")


def _refused(status: int, answer: Any) -> Failure:  # noqa: ANN401 - whatever was answered
    message = answer.get("message") if isinstance(answer, dict) else None
    return RemoteFailure(f"the daemon answers {status}: {message or 'not as fairvisor does'}")


def _table(rows: list[dict[str, Any]]) -> list[str]:
    shown = [[title for _, title in _COLUMNS]]
    shown += [[_cell(row.get(name)) for name, _ in _COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]


def _cell(value: object) -> str:
    text = "by hand" if value is None else str(value)
    return text if text.isprintable() and text else repr(text)
