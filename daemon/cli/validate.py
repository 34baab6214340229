"""`fairvisor validate`: judge a bundle as the daemon would, and list every mistake (§2.5, §16)."""

import json
import time
from collections.abc import Sequence

import click

from daemon.cli import files
from daemon.cli.command import Command
from daemon.cli.exits import FAILURE, OK, Failure, error, warning
from protocol import timestamps
from protocol.bundle import Bundle, Problem
from protocol.bundle_text import load

_LATEST = 253_402_300_799


def moment(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """Return epoch seconds from `--at`.

    Raises:
        BadParameter: neither epoch seconds nor a timestamp as bundles write them.
    """
    if text is None:
        return None
    parsed = timestamps.parse(text)
    if parsed is not None:
        return parsed
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LATEST:
        raise click.BadParameter(
            "must be epoch seconds or a time such as 2026-01-31T12:00:00Z", ctx, param
        )
    return seconds


@click.command(
    cls=Command,
    short_help="Check a policy bundle and list every mistake.",
    epilog="Example: fairvisor validate policy.json --strict",
)
@click.argument("file")
@click.option("--strict", is_flag=True, help="Take unknown and repeated keys for errors.")
@click.option(
    "--format", "shape", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@click.option(
    "--at", callback=moment, help="Judge expiry as of this time: epoch seconds or a timestamp."
)
def validate(file: str, shape: str, at: float | None, *, strict: bool) -> int:
    """Check the policy bundle FILE ("-": standard input) and list every mistake with its place.

    Exit code 0 if the daemon would load it, 1 if not. Signed bundles are checked with
    FAIRVISOR_BUNDLE_SIGNING_KEY.
    """
    bundle: Bundle | None = None
    errors: Sequence[Problem]
    warnings: Sequence[Problem] = ()
    try:
        text = files.read(file, files.MAX_BUNDLE_BYTES)
    except Failure as failure:
        if shape == "text":
            raise
        errors = [Problem("$", failure.message)]
    else:
        now = time.time() if at is None else at
        report = load(text, now=now, signing_key=files.signing_key(), strict=strict)
        bundle, errors, warnings = report.bundle, report.errors, report.warnings
    if bundle is not None:
        warnings = [*warnings, *_unusable_keys(file, bundle)]
    if shape == "json":
        document = {
            "valid": bundle is not None,
            "errors": _documents(errors),
            "warnings": _documents(warnings),
        }
        click.echo(json.dumps(document, indent=2))
        return FAILURE if bundle is None else OK
    for problem in warnings:
        warning(f"{files.name(file)}: {problem.path}: {problem.message}")
    for problem in errors:
        error(f"{files.name(file)}: {problem.path}: {problem.message}")
    if bundle is None:
        return FAILURE
    policies = len(bundle.policies)
    rules = sum(len(policy.rules) for policy in bundle.policies)
    click.echo(f"Valid: {_counted(policies, 'policy', 'policies')}, {_counted(rules, 'rule')}")
    return OK


def _counted(number: int, one: str, more: str = "") -> str:
    return f"{number} {one if number == 1 else more or f'{one}s'}"


def _unusable_keys(path: str, bundle: Bundle) -> Sequence[Problem]:
    """Return why the daemon, if it ran here, would refuse the bundle for a file it names."""
    if not any(key.jwks_file for key in bundle.jwt.keys):
        return ()
    # Cryptography takes longer to import than most bundles take to check.
    from daemon.supervisor.bundles import BundleError, read_jwks  # noqa: PLC0415 - as above

    try:
        read_jwks(path, bundle)
    except BundleError as unusable:
        return [
            Problem(each.path, f"{each.message}; the daemon would refuse this bundle")
            for each in unusable.problems
        ]
    return ()


def _documents(problems: Sequence[Problem]) -> list[dict[str, str]]:
    return [{"path": problem.path, "message": problem.message} for problem in problems]
