"""`fairvisor help`."""

import click

from daemon.cli.command import Command


@click.command(
    cls=Command,
    short_help="Explain fairvisor or one of its commands.",
    epilog="Example: fairvisor help validate",
)
@click.argument("command", nargs=-1)
@click.pass_context
def help(ctx: click.Context, command: tuple[str, ...]) -> None:  # noqa: A001 - the command's name
    """Explain fairvisor, or COMMAND, with an example."""
    root = ctx.find_root()
    context = root
    for name in command:
        group = context.command
        found = group.get_command(context, name) if isinstance(group, click.Group) else None
        if found is None:
            whole = " ".join(command)
            message = f"no such command '{whole}'; `fairvisor help` lists them"
            raise click.UsageError(message, ctx)
        context = click.Context(found, info_name=name, parent=context)
    click.echo(context.command.get_help(context))
