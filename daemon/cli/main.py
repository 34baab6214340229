"""The `fairvisor` command line (behaviour §16): exit 0 ok, 1 failure, 2 remote, 3 usage."""

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

main = LazyGroup(
    COMMANDS,
    name="fairvisor",
    help="Policy and spend control at the edge for APIs and LLMs.",
    epilog="`fairvisor help COMMAND` explains a command with an example. "
    "Exit codes: 0 ok, 1 failure, 2 remote unreachable or refused, 3 usage.",
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)

if __name__ == "__main__":
    main()
