"""The `fairvisor` command line (behaviour §16): exit 0 ok, 1 failure, 2 remote, 3 usage."""

import click

from daemon.cli.command import LazyGroup

COMMANDS = {
    "serve": ("Run the daemon in the foreground.", "daemon.cli.serve"),
    "init": ("Write a first policy.json and edge.env.example.", "daemon.cli.init"),
    "validate": ("Check a policy bundle and list every mistake.", "daemon.cli.validate"),
    "test": ("Replay requests against a bundle in simulated time.", "daemon.cli.test"),
    "status": ("Ask a running daemon how it is.", "daemon.cli.status"),
    "breaker": ("List and reset spend circuit breakers.", "daemon.cli.breaker"),
    "state": ("Look at the stored counters, or reset them.", "daemon.cli.state"),
    "logs": ("Filter decision records.", "daemon.cli.logs"),
    "gateway": (
        "Print the configuration of a gateway that asks this daemon.",
        "daemon.cli.gateway",
    ),
    "completion": ("Print the completion script of a shell.", "daemon.cli.completion"),
    "version": ("Print the version.", "daemon.cli.version"),
    "help": ("Explain fairvisor or one of its commands.", "daemon.cli.help"),
}


def _tell_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click's signature
    if asked and not ctx.resilient_parsing:
        # What tells it takes longer to import than all else that a command line needs.
        from daemon.version import described  # noqa: PLC0415 - as above

        click.echo(described())
        ctx.exit()


main = LazyGroup(
    COMMANDS,
    name="fairvisor",
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_tell_version,
            help="Print the version and exit.",
        )
    ],
    help="Policy and spend control at the edge for APIs and LLMs.",
    epilog="`fairvisor help COMMAND` explains a command with an example. "
    "Exit codes: 0 ok, 1 failure, 2 remote unreachable or refused, 3 usage.",
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)

if __name__ == "__main__":
    main()
