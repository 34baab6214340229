"""`fairvisor version`."""

import click

from daemon.cli.command import Command
from daemon.version import package_version


@click.command(cls=Command, short_help="Print the version.", epilog="Example: fairvisor version")
def version() -> None:
    """Print the version."""
    click.echo(f"fairvisor {package_version()}")
