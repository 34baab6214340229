"""How `fairvisor test` prints what happened: as it happens, as lines and a table or as JSON."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from daemon.replay.figures import Figures
from protocol.validation.wording import printable

Write = Callable[[str], object]
_PROGRESS_SECONDS = 0.2
_COLUMNS = ("policy / rule", "requests", "refused", "%", "keys", "lowest left", "busiest key")


def write_json(items: Iterable[dict[str, Any]], figures: Figures, write: Write) -> None:
    """Write one JSON document, an item at a time."""
    write('{"results": [')
    comma = "\n"
    for item in items:
        write(comma + json.dumps(item))
        comma = ",\n"
    write('\n],\n"summary": ' + json.dumps(figures.summary()))
    write(',\n"would_reject": ' + json.dumps(figures.would_reject))
    write(',\n"by_rule": ' + json.dumps(figures.by_rule(), indent=1) + "}\n")


def write_table(items: Iterable[dict[str, Any]], figures: Figures, write: Write) -> None:
    """Write one line per entry, the sums, and a table of the rules."""
    for item in items:
        write(line(item) + "\n")
    sums = figures.summary()
    write(
        f"Summary: {sums['total']} total, {sums['allow']} allow, "
        f"{sums['reject']} reject, {sums['throttle']} throttle\n"
    )
    if figures.would_reject:
        write(f"Would reject in enforce mode: {figures.would_reject}\n")
    rules = [_row(rule) for rule in figures.by_rule()]
    if rules:
        write("\n" + "\n".join(_aligned([_COLUMNS, *rules])) + "\n")


def line(item: dict[str, Any]) -> str:
    """Return one entry's line; entries are counted from 1."""
    number = item["index"] + 1
    if "settled" in item:
        if not item["settled"]:
            return f"{number}. settle -> refused: nothing reserved, or settled before"
        return f"{number}. settle -> refunded {item['refunded']}, overrun {item['overrun']}"
    if "reset_breaker" in item:
        return f"{number}. reset of all circuit breakers"
    policy, rule = item["policy_id"] or "-", item["rule_name"] or "-"
    shadow = f" would reject: {item['original_reason']}" if item["would_reject"] else ""
    return printable(
        f"{number}. {item['method']} {item['path']} -> {item['action']} "
        f"({policy} / {rule}) reason: {item['reason']}{shadow}"
    )


def with_progress(items: Iterable[dict[str, Any]], total: int) -> Iterator[dict[str, Any]]:
    """Pass items on; if somebody watches standard error and not the items, say how far it is."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        yield from items
        return
    due = time.monotonic() + _PROGRESS_SECONDS
    shown = False
    for done, item in enumerate(items):
        if time.monotonic() >= due:
            click.echo(f"\r{done:,} of {total:,} requests", err=True, nl=False)
            due, shown = time.monotonic() + _PROGRESS_SECONDS, True
        yield item
    if shown:
        click.echo("\r" + " " * 60 + "\r", err=True, nl=False)


def _row(rule: dict[str, Any]) -> tuple[str, ...]:
    busiest, lowest = rule["busiest"], rule["lowest_remaining"]
    key = "-"
    if busiest:
        values = ", ".join(f"{name}={value}" for name, value in busiest["key"].items()) or "all"
        key = f"{values} ({busiest['requests']} requests, {busiest['rejected']} refused)"
    shadow = " (shadow)" if rule["mode"] == "shadow" else ""
    return (
        printable(f"{rule['policy_id']} / {rule['rule_name']}{shadow}"),
        str(rule["requests"]),
        str(rule["rejected"]),
        f"{rule['rejected_percent']:g}",
        str(rule["keys"]),
        "-" if lowest is None else f"{lowest:g} of {rule['limit']:g}",
        printable(key),
    )


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return [
        "  ".join(
            cell.rjust(width) if 0 < column < len(row) - 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
