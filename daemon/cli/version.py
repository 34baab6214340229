"""`fairvisor version`."""

import click

from daemon.cli.command import Command
from daemon.version import described


@click.command(cls=Command, short_help="Print the version.", epilog="Example: fairvisor version")
def version() -> None:
    """Print the version, and whether the hot path is compiled."""
    click.echo(described())
