"""`fairvisor init`: a first bundle and a settings file to start from (§16)."""

import os
from importlib.resources import files
from pathlib import Path

import click

from daemon.cli.command import Command
from daemon.cli.exits import Failure
from daemon.settings import VARIABLES

TEMPLATES = ("api", "llm", "webhook")
POLICY = "policy.json"
ENV = "edge.env.example"


@click.command(
    cls=Command,
    short_help="Write a first policy.json and edge.env.example.",
    epilog="Example: fairvisor init --template=llm",
)
@click.option(
    "--template",
    type=click.Choice(TEMPLATES),
    default="api",
    show_default=True,
    help="api: requests per API key; llm: tokens per organisation; webhook: requests per address.",
)
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
def init(template: str, *, force: bool) -> None:
    """Write policy.json and edge.env.example into the current folder."""
    policy = files("daemon.cli.templates").joinpath(f"{template}.json").read_text("utf-8")
    contents = {POLICY: policy, ENV: settings_file()}
    if not force:
        for name in contents:
            if os.path.lexists(name):
                raise Failure(f"{name} exists; --force overwrites it")
    for name, text in contents.items():
        try:
            with Path(name).open("w" if force else "x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise Failure(f"{name}: cannot be written: {os.strerror(error.errno or 0)}") from None
    click.echo(f"Created {POLICY} and {ENV}")


def settings_file() -> str:
    """Return all settings with their defaults, commented out, except the bundle's path."""
    lines = [
        "# Settings of fairvisor. Copy this to edge.env, change what you need, and start with:",
        "#   set -a; . ./edge.env; set +a; fairvisor serve",
        "# or name it in a systemd unit: EnvironmentFile=/etc/fairvisor/edge.env",
    ]
    for variable in VARIABLES:
        lines += ["", f"# {variable.meaning}"]
        if variable.setting == "config_file":
            lines.append(f"{variable.name}={POLICY}")
        else:
            lines.append(f"#{variable.name}={variable.default or ''}")
    return "\n".join(lines) + "\n"
