"""`fairvisor help`."""

import click

from daemon.cli.command import Command


@click.command(
    cls=Command,
    short_help="Explain fairvisor or one of its commands.",
    epilog="Example: fairvisor help validate",
)
@click.argument("command", required=False)
@click.pass_context
def help(ctx: click.Context, command: str | None) -> None:  # noqa: A001 - the command's name
    """Explain fairvisor, or COMMAND, with an example."""
    root = ctx.find_root()
    if command is None:
        click.echo(root.get_help())
        return
    found = (
        root.command.get_command(root, command) if isinstance(root.command, click.Group) else None
    )
    if found is None:
        raise click.UsageError(f"no such command '{command}'; `fairvisor help` lists them", ctx)
    with click.Context(found, info_name=command, parent=root) as inner:
        click.echo(found.get_help(inner))
