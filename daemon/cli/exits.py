"""How a command ends: §16's exit codes, and one line instead of a traceback."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn, TextIO

import click

OK = 0
FAILURE = 1
REMOTE = 2
USAGE = 3
INTERRUPTED = 130
"""What a shell reports of a program that Ctrl-C ended (128 + SIGINT)."""


class Failure(click.ClickException):
    """The command cannot do its work; the message is one line for the user."""

    exit_code = FAILURE


class RemoteFailure(Failure):
    """The other side cannot be reached or refuses."""

    exit_code = REMOTE


def error(message: str) -> None:
    """Print one error."""
    click.echo(f"Error: {message}", err=True)


def warning(message: str) -> None:
    """Print one warning."""
    click.echo(f"Warning: {message}", err=True)


def run(command: Callable[[], object]) -> NoReturn:
    """Run a command and leave the process with its exit code (its return value, 0 for None)."""
    sys.exit(_outcome(command))


def _outcome(command: Callable[[], object]) -> int:
    for stream in (sys.stdout, sys.stderr):
        _never_fail_to_encode(stream)
    try:
        code = command()
        sys.stdout.flush()
    except Exception as cause:  # noqa: BLE001 - §16: whatever happens, the user gets one line
        return _tell(cause)
    except KeyboardInterrupt:
        return INTERRUPTED
    return code if isinstance(code, int) else OK


def _tell(cause: Exception) -> int:
    """Print what ended a command; return the exit code."""
    code = FAILURE
    match cause:
        case click.UsageError():
            _explain(cause)
            code = USAGE
        case click.ClickException():
            error(cause.format_message())
            code = cause.exit_code
        case click.Abort():
            code = INTERRUPTED
        case BrokenPipeError():
            forget_stdout()
        case OSError():
            error(f"{cause.filename}: {cause.strerror}" if cause.filename else str(cause))
        case MemoryError():
            error("out of memory")
        case _:
            _confess(cause)
    return code


def _confess(bug: Exception) -> None:
    if os.environ.get("FAIRVISOR_LOG_LEVEL") == "debug":
        sys.excepthook(type(bug), bug, bug.__traceback__)
    error(
        f"internal error, {type(bug).__name__}: {bug}; please report it with the output of "
        "the same command under FAIRVISOR_LOG_LEVEL=debug"
    )


def _explain(usage: click.UsageError) -> None:
    if usage.ctx is not None:
        click.echo(usage.ctx.get_usage(), err=True)
    error(usage.format_message())
    if usage.ctx is not None:
        name = usage.ctx.command_path.removeprefix("fairvisor").strip()
        click.echo(f"Try: fairvisor help {name}".rstrip(), err=True)


def _never_fail_to_encode(stream: TextIO) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def forget_stdout() -> None:
    """Let the interpreter's last flush go nowhere: whoever read our output is gone."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
