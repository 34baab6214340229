"""`fairvisor completion`: what a shell must load to complete commands and options."""

import click
from click.shell_completion import get_completion_class

from daemon.cli.command import Command


@click.command(
    cls=Command,
    short_help="Print the completion script of a shell.",
    epilog='Example: eval "$(fairvisor completion bash)"',
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete fairvisor's commands and options.

    \b
    bash: eval "$(fairvisor completion bash)"             in ~/.bashrc
    zsh:  eval "$(fairvisor completion zsh)"              in ~/.zshrc
    fish: fairvisor completion fish | source              in ~/.config/fish/config.fish
    """  # noqa: D301 - \b is click's mark of lines that stay as they are
    shape = get_completion_class(shell)
    if shape is None:
        raise click.UsageError(f"no completion for {shell}", ctx)
    script = shape(ctx.find_root().command, {}, "fairvisor", "_FAIRVISOR_COMPLETE")
    # Not script.source(): for bash it starts a shell to look at its version.
    click.echo(script.source_template % script.source_vars())
