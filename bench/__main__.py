"""Run scenarios: `python -m bench decisions --json figures.json`."""

import argparse
import dataclasses
import json
import signal
import sys
from pathlib import Path

from bench import flood, gateways, proxying, report
from bench.load import LoadError
from bench.measure import Options, Row, measure, side_by_side
from bench.probe import ProbeError
from bench.scenarios import SCENARIOS

GATEWAYS = "gateways"
FLOOD = "flood"
FLOOD_REQUESTS = 250
"""In each window of a phase, for each second that a run is to take: about as long."""


def main() -> int:
    """Measure the scenarios that the command line names; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped then too
    arguments = parser().parse_args()
    print("  ".join(f"{name}: {value}" for name, value in report.machine().items()))
    print(
        f"median of {arguments.rounds} rounds of {arguments.seconds} s, servers in turns, wrk -t1"
    )
    options = Options(
        seconds=arguments.seconds,
        rounds=arguments.rounds,
        connections=(),
        subject=arguments.subject,
        command=arguments.command,
        litellm=arguments.litellm,
    )
    taken: dict[str, list[Row]] = {}
    pairs: list[gateways.Pair] = []
    phases: list[flood.Phase] = []
    for name in arguments.scenario:
        try:
            if name == GATEWAYS:
                pairs = across_gateways(options, arguments.connections)
            elif name == FLOOD:
                phases = under_a_flood(options)
            else:
                taken[name] = beside_nginx(name, options, arguments.connections)
        except (LoadError, ProbeError) as error:
            print(f"{name}: no figures: {error}", file=sys.stderr)
            return 1
    if arguments.json is not None:
        text = json.dumps(
            report.document(options, taken, pairs, phases), indent=2, ensure_ascii=False
        )
        arguments.json.write_text(text + "\n")
    return 0


def across_gateways(options: Options, connections: list[int] | None) -> list[gateways.Pair]:
    """Measure and show what a check adds to a gateway."""
    print(f"\n{GATEWAYS}: what a check adds to a gateway", flush=True)
    chosen = dataclasses.replace(options, connections=tuple(connections or gateways.CONNECTIONS))
    pairs = gateways.measure(chosen)
    print(gateways.table(pairs), flush=True)
    return pairs


def under_a_flood(options: Options) -> list[flood.Phase]:
    """Measure and show what good clients notice of a flood."""
    print(f"\n{FLOOD}: {flood.IDLE} idle and {flood.SLOW} slow connections", flush=True)
    phases = flood.measure(options.command, FLOOD_REQUESTS * options.seconds)
    print(flood.table(phases), flush=True)
    return phases


def beside_nginx(name: str, options: Options, connections: list[int] | None) -> list[Row]:
    """Measure and show a scenario's servers, of which one is nginx."""
    if name in proxying.SCENARIOS:
        about, measured = proxying.SCENARIOS[name]
        print(f"\n{name}: {about}", flush=True)
        rows = measured(options)
    else:
        scenario = SCENARIOS[name]
        print(f"\n{name}: {scenario.about}", flush=True)
        chosen = dataclasses.replace(
            options, connections=tuple(connections or scenario.connections)
        )
        if scenario.side_by_side:
            rows = side_by_side(scenario.variants, chosen)
        else:
            rows = [row for each in scenario.variants for row in measure(each, chosen)]
    print(report.table(rows), flush=True)
    return rows


KNOWN = (*SCENARIOS, GATEWAYS, FLOOD, *proxying.SCENARIOS)


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    grammar = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    grammar.add_argument(
        "scenario", type=known, nargs="*", default=["decisions"], help=", ".join(KNOWN)
    )
    grammar.add_argument("--seconds", type=positive, default=4, help="length of a run")
    grammar.add_argument("--rounds", type=positive, default=5, help="runs a row is the median of")
    grammar.add_argument(
        "--connections", type=positive, nargs="+", help="instead of the scenario's own"
    )
    grammar.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    grammar.add_argument(
        "--litellm", type=Path, metavar="FOLDER", help="environment with litellm[proxy] for proxies"
    )
    grammar.add_argument("--command", help="start this instead of `fairvisor serve`")
    grammar.add_argument(
        "--subject",
        choices=["fairvisor", "nginx"],
        default="fairvisor",
        help="nginx compares nginx with itself: how far to trust the machine",
    )
    return grammar


def known(text: str) -> str:
    """Return the name of a scenario.

    Raises:
        argparse.ArgumentTypeError: there is none of that name.
    """
    if text not in KNOWN:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(KNOWN)}")
    return text


def positive(text: str) -> int:
    """Read an integer from 1 to 600.

    Raises:
        ValueError: it is not one.

    """
    number = int(text)
    if not 1 <= number <= 600:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main())
