"""`fairvisor test`: requests against a bundle in simulated time (§16.1)."""

import json
import os
import sys
import time

import click

from daemon.cli import files
from daemon.cli.command import Command
from daemon.cli.exits import Failure, error, warning
from daemon.cli.rehearsal import bundle_at, replay_of, settings
from daemon.cli.report import with_progress, write_json, write_table
from daemon.replay.entries import Survey, read, survey
from daemon.replay.figures import Figures
from daemon.replay.results import play
from daemon.replay.samples import samples


@click.command(
    cls=Command,
    short_help="Replay requests against a bundle in simulated time.",
    epilog="Example: fairvisor test policy.json --requests requests.json --format=json",
)
@click.argument("file", default="policy.json")
@click.option(
    "--requests", help='Requests to replay: an array, or one per line ("-": standard input).'
)
@click.option(
    "--format", "shape", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@click.option("--dry-run", is_flag=True, help="Put every policy in shadow mode.")
def test(file: str, requests: str | None, shape: str, *, dry_run: bool) -> None:
    """Replay requests against the bundle FILE (default: policy.json) as the daemon would decide.

    Nothing sleeps: every request says when it happens ("at"). Decision records, as `fairvisor logs`
    prints them, can be replayed too. Without --requests, every policy gets one request that fits
    it. Rejects do not change the exit code.
    """
    now = time.time_ns() // 1000
    key = settings(os.environ).signing_key
    text = None if requests is None else files.read(requests, files.MAX_REQUESTS_BYTES)
    found = Survey() if text is None else _judge(text, now)
    loaded = bundle_at(file, now if found.first_at is None else found.first_at, key)
    if text is None:
        entries = [] if loaded is None else list(samples(loaded.bundle))
        text = json.dumps(entries).encode()
        found = survey(text, now)
    replay, sources = replay_of(loaded, dry_run=dry_run)
    figures = Figures()
    items = play(read(text, now), replay, sources, found.settled, figures)
    write = write_json if shape == "json" else write_table
    write(with_progress(items, found.requests), figures, sys.stdout.write)


def _judge(text: bytes, now: int) -> Survey:
    found = survey(text, now)
    for note in found.warnings:
        warning(note)
    if found.skipped:
        warning(f"{found.skipped} records of other events are left out")
    if not found.errors:
        return found
    for message in found.errors[:-1]:
        error(message)
    last = found.errors[-1]
    raise Failure(f"{last} (and {found.more_errors} more)" if found.more_errors else last)
