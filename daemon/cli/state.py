"""`fairvisor state`: the counters that a daemon has stored on this host (§13.5)."""

import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click

from daemon.cli import stored
from daemon.cli.command import Command, Group
from daemon.cli.exits import Failure, warning
from daemon.engine.disclosure import shown
from daemon.state_secret import read_secret
from protocol.placement import MOST_KEY_CHARS, key_digest
from shard.stores import database
from shard.stores.folder import StateError, StateFolder
from shard.stores.inspection import Counter, counters
from shard.stores.keeper import Keeper
from shard.stores.schema import transaction
from shard.stores.view import EVERYTHING, View

_LISTED = 100
_COLUMNS = ("POLICY", "RULE", "KEY", "VALUE", "AGE", "EXPIRES")
_UNREADABLE = (ValueError, TypeError, KeyError, sqlite3.Error)

_folder = click.option(
    "--state-dir",
    "path",
    envvar="FAIRVISOR_STATE_DIR",
    show_envvar=True,
    help="The daemon's state folder. Without it: where the daemon would have it.",
)
_policy = click.option("--policy", help="Only counters of this policy.")
_rule = click.option("--rule", help="Only counters of this rule; loop and breaker are rules, too.")
_key = click.option(
    "--key",
    help="Only the counter of this limit key's value, or as it is shown. One shown as digest:… is "
    "found by its value only where the rule has one limit key.",
)
_reveal = click.option("--reveal", is_flag=True, help="Show credentials as they are.")


@click.group(
    cls=Group,
    short_help="Look at the stored counters, or reset them.",
    epilog="Example: fairvisor state inspect --policy api",
)
def state() -> None:
    """Look at the counters that are stored on this host, export them, or reset them.

    `inspect` and `export` work beside a running daemon. `reset` needs it to be stopped.
    """


@state.command(
    "inspect",
    cls=Command,
    short_help="List stored counters with their values and ages.",
    epilog="Example: fairvisor state inspect --policy api --format=json",
)
@_folder
@_policy
@_rule
@_key
@click.option("--limit", type=click.IntRange(1), default=_LISTED, show_default=True)
@click.option(
    "--format", "shape", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@_reveal
def inspect(  # noqa: PLR0913 - its flags
    *,
    path: str | None,
    policy: str | None,
    rule: str | None,
    key: str | None,
    limit: int,
    shape: str,
    reveal: bool,
) -> None:
    """List stored counters by policy, rule and key, with what is used or left, and their age.

    Values of credentials are shown as digests, the same as in decision records.
    """
    folder = stored.existing(path)
    secret = read_secret(folder.path)
    with closing(stored.view(folder)) as view:
        found = _matching(view, policy, rule, key, secret)
        listed = [_described(each, secret, reveal=reveal) for each in islice(found, limit)]
        more = sum(1 for _ in found)
        held = len(view.reservations(EVERYTHING))
    if shape == "json":
        document = {"counters": listed, "not_listed": more, "reservations": held}
        click.echo(json.dumps(document, indent=2))
        return
    for line in _table([_cells(each) for each in listed]):
        click.echo(line)
    total = len(listed) + more
    click.echo(f"{total} counter(s), {held} open reservation(s)")
    if more:
        click.echo(f"{more} not listed; --limit {total} lists all")


@state.command(
    "export",
    cls=Command,
    short_help="Print every stored counter and reservation as JSON lines.",
    epilog="Example: fairvisor state export > counters.ndjson",
)
@_folder
@_policy
@_rule
@_reveal
def export(*, path: str | None, policy: str | None, rule: str | None, reveal: bool) -> None:
    """Print every stored counter and open reservation, one JSON object a line."""
    folder = stored.existing(path)
    secret = read_secret(folder.path)
    with closing(stored.view(folder)) as view:
        for each in _matching(view, policy, rule, None, secret):
            line = {"type": "counter", **_described(each, secret, reveal=reveal)}
            click.echo(json.dumps({**line, "state": list(each.state)}))
        if policy or rule:
            return
        for kept in view.reservations(EVERYTHING).values():
            names = sorted({database.named(identity).rule for identity, _, _ in kept.entries})
            # ids stay out: who has one can settle with it
            line = {"type": "reservation", "charged_at": _time(kept.charged_at), "rules": names}
            click.echo(json.dumps(line))


@state.command(
    "reset",
    cls=Command,
    short_help="Reset stored counters while the daemon is stopped.",
    epilog="Example: fairvisor state reset --policy api --key alice --yes",
)
@_folder
@_policy
@_rule
@_key
@click.option("--all", "everything", is_flag=True, help="Reset every counter there is.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(  # noqa: PLR0913 - its flags
    *,
    path: str | None,
    policy: str | None,
    rule: str | None,
    key: str | None,
    everything: bool,
    yes: bool,
) -> None:
    """Make stored counters fresh, and forget reservations on them. The daemon must be stopped."""
    if everything == bool(policy or rule or key):
        raise click.UsageError("name --policy, --rule or --key, or else --all")
    folder = stored.named(path)
    if everything and not stored.is_used(folder):
        click.echo(f"{stored.nothing(folder)}: there is nothing to reset")
        return
    folder = stored.used(folder)
    secret = read_secret(folder.path)
    try:
        lock = folder.lock(wait=0)
    except StateError as error:
        # Its words are for a daemon that starts, to which the holder is another one.
        text = str(error).replace("by another daemon", "by a running daemon")
        raise Failure(f"{text}; stop it first") from None
    try:
        with closing(stored.view(folder)) as view:
            chosen = list(_matching(view, policy, rule, key, secret))
        if everything and not chosen:
            click.echo(f"{stored.nothing(folder)}: there is nothing to reset")
            return
        if not chosen:
            raise Failure("no stored counter is like that; `fairvisor state inspect` lists them")
        if not yes and not _confirmed(len(chosen)):
            raise Failure("nothing was reset")
        removed = _remove(folder, chosen)
    finally:
        os.close(lock)
    click.echo(f"Reset {removed} counter(s)")


def _confirmed(number: int) -> bool:
    silent = os.environ.get("FAIRVISOR_NON_INTERACTIVE") == "1" or os.environ.get("CI") == "true"
    if silent or not sys.stdin.isatty():
        raise Failure(f"{number} counter(s) would be reset; say --yes to do it")
    return bool(click.confirm(f"Reset {number} counter(s)?"))


def _remove(folder: StateFolder, chosen: list[Counter]) -> int:
    keeper = Keeper(folder, None, lambda level, text: warning(f"{level}: {text}"))
    now = time.time()
    try:
        keeper.start(0, now)
        numbers = database.rules(keeper.connection)
        with transaction(keeper.connection):
            removed = sum(
                database.remove(keeper.connection, numbers[each.identity][0], [each.key])
                for each in chosen
                if each.identity in numbers
            )
        keeper.finish(now)
    except (StateError, sqlite3.Error) as error:
        raise Failure(str(error)) from None
    return removed


def _matching(
    view: View, policy: str | None, rule: str | None, key: str | None, secret: bytes
) -> Iterator[Counter]:
    try:
        for each in counters(view, time.time_ns() // 1000):
            if policy is not None and each.name.policy != policy:
                continue
            if rule is not None and each.name.rule != rule:
                continue
            texts = {_shown(each, secret, reveal=reveal) for reveal in (True, False)}
            if key is None or key in texts or key_digest(key) == each.key:
                yield each
    except _UNREADABLE as error:
        raise Failure(f"the stored counters cannot be read: {error}") from None


def _shown(counter: Counter, secret: bytes, *, reveal: bool) -> str:
    if counter.values is None:
        return f"digest:{bytes(counter.key).hex()}" if isinstance(counter.key, bytes) else ""
    # A breaker's name does not tell what its key is: it may be a credential.
    keys = counter.name.limit_keys or ("header:authorization",)
    parts = [
        value if reveal else shown(key, value, secret, MOST_KEY_CHARS)
        for key, value in zip(keys, counter.values, strict=False)
    ]
    return ", ".join(parts)


def _described(counter: Counter, secret: bytes, *, reveal: bool) -> dict[str, Any]:
    name = counter.name
    return {
        "policy": name.policy,
        "rule": name.rule,
        "mode": name.mode,
        "algorithm": counter.kind,
        "limit_keys": list(name.limit_keys),
        "key": _shown(counter, secret, reveal=reveal),
        "value": counter.value,
        "updated_at": _time(counter.updated_us),
        "age_seconds": max(0, round(time.time() - counter.updated_us / 1_000_000)),
        "expires_at": None if counter.expires_us is None else _time(counter.expires_us),
    }


def _cells(described: dict[str, Any]) -> list[str]:
    value = " ".join(f"{name}={_figure(each)}" for name, each in described["value"].items())
    shadow = " (shadow)" if described["mode"] == "shadow" else ""
    return [
        described["policy"] + shadow,
        described["rule"],
        described["key"],
        value,
        f"{described['age_seconds']} s",
        described["expires_at"] or "never",
    ]


def _figure(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value}"


def _table(rows: list[list[str]]) -> Iterator[str]:
    if not rows:
        return
    lines = [list(_COLUMNS), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        yield "  ".join(cells).rstrip()


def _time(microseconds: int) -> str:
    moment = datetime.fromtimestamp(microseconds / 1_000_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
