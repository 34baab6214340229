"""`fairvisor logs`: pick decision records (§19) out of a stream of lines."""

import sys

import click
import orjson

from daemon.cli.command import Command
from daemon.cli.exits import forget_stdout
from daemon.cli.tail import lines


@click.command(
    cls=Command,
    short_help="Filter decision records.",
    epilog="Example: fairvisor logs --file decisions.ndjson --action=reject",
)
@click.option("--file", "path", help="Read this file instead of standard input.")
@click.option("--follow", is_flag=True, help="Wait for more at the end of the file, as tail -F.")
@click.option("--action", help="Only records with this action: allow, reject or throttle.")
@click.option("--reason", help="Only records with this reason.")
def logs(path: str | None, action: str | None, reason: str | None, *, follow: bool) -> None:
    """Print the decision records that meet all conditions, one JSON object per line.

    Lines that are no JSON objects are dropped.
    """
    given = {"action": action, "reason": reason}
    wanted = {name: value for name, value in given.items() if value is not None}
    output = sys.stdout.buffer
    try:
        for batch in lines(path, follow=follow):
            output.writelines(line + b"\n" for line in batch if _meets(line, wanted))
            output.flush()
    except BrokenPipeError:
        forget_stdout()  # `| head` has what it wanted: for a filter that is a good end


def _meets(line: bytes, wanted: dict[str, str]) -> bool:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return isinstance(record, dict) and all(record.get(name) == wanted[name] for name in wanted)
