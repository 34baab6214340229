"""The `fairvisor` command line (behaviour §16): exit 0 ok, 1 failure, 2 remote, 3 usage."""

import click

from daemon.cli.serve import serve


@click.group()
def main() -> None:
    """Policy and spend control at the edge for APIs and LLMs."""


main.add_command(serve)


if __name__ == "__main__":
    main()
