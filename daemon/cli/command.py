"""The shapes of click command that §16 asks for."""

from collections.abc import Mapping
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from daemon.cli.exits import run


class Command(click.Command):
    """A command whose flags may be spelled `--flag`, `--flag=true` or `--flag=false` (§16)."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read `--flag=true` as `--flag` and drop `--flag=false`; leave the rest to click."""
        flags = {
            spelling
            for param in self.params
            if isinstance(param, click.Option) and param.is_flag
            for spelling in param.opts
        }
        end = args.index("--") if "--" in args else len(args)
        plain: list[str] = []
        for arg in args[:end]:
            name, equals, value = arg.partition("=")
            if name in flags and equals and value.lower() in {"true", "false"}:
                if value.lower() == "true":
                    plain.append(name)
            else:
                plain.append(arg)
        return super().parse_args(ctx, plain + args[end:])


class Group(click.Group):
    """A command that only holds others."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse to guess when no command is named."""
        if not args and not ctx.resilient_parsing:
            name = ctx.command_path.removeprefix("fairvisor").strip()
            hint = f"fairvisor help {name}".rstrip()
            raise click.UsageError(f"no command given; `{hint}` lists them", ctx)
        return super().parse_args(ctx, args)


class LazyGroup(Group):
    """Commands that are imported when they are called: `version` need not wait for `serve`.

    `commands` maps a name to (what it does, its module); the module holds the command under the
    command's own name.
    """

    def __init__(self, table: Mapping[str, tuple[str, str]], **attributes: object) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]  # click's own keywords
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command; None for an unknown name."""
        if cmd_name not in self.table:
            return None
        _, module = self.table[cmd_name]
        found = getattr(import_module(module), cmd_name)
        return found if isinstance(found, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, does) for name, (does, _) in self.table.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names of commands without importing them."""
        names = [
            CompletionItem(name, help=does)
            for name, (does, _) in self.table.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def main(  # type: ignore[override]  # one overload of click's two
        self,
        args: list[str] | None = None,
        prog_name: str | None = None,
        **extra: object,
    ) -> object:
        """Run the command line and exit as §16 says."""
        extra["standalone_mode"] = False
        run(lambda: super(LazyGroup, self).main(args, prog_name or "fairvisor", **extra))  # type: ignore[call-overload]  # as above
