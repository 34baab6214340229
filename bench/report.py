"""Show rows as a text table, and keep them with the machine and the method as JSON."""

import dataclasses
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.flood import Phase
from bench.gateways import Pair, medians
from bench.load import Sample
from bench.measure import Options, Row
from daemon.version import is_compiled

Figure = tuple[str, str]
FIGURES: tuple[Figure, ...] = (
    ("rate", "req/s"),
    ("p50_us", "p50 µs"),
    ("p99_us", "p99 µs"),
    ("cpu_us", "CPU-µs/req"),
)
HEAD = ("variant", "conns", "server", *(title for _, title in FIGURES), "CPU/nginx", "spread")


def figure(row: Row, name: str) -> float:
    """Return the median of one of `FIGURES`."""

    def read(sample: Sample) -> float:
        value: float = getattr(sample, name)
        return value

    return row.median(read)


def ratio(row: Row, rows: Iterable[Row]) -> float:
    """Return the CPU time per request of `row` as a multiple of nginx's under the same load."""
    load = (row.variant, row.connections, "nginx")
    floor = next(r for r in rows if (r.variant, r.connections, r.server) == load)
    return figure(row, "cpu_us") / figure(floor, "cpu_us")


def spread(row: Row) -> float:
    """Return how far the rounds' CPU times lie apart, as a share of their median."""
    times = [sample.cpu_us for sample in row.samples]
    return (max(times) - min(times)) / (figure(row, "cpu_us") or 1.0)


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    models = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "fairvisor": "compiled" if is_compiled() else "source",
    }


def table(rows: list[Row]) -> str:
    """Return the rows as aligned text."""
    lines = [HEAD]
    for row in rows:
        figures = [f"{figure(row, name):,.{1 if name == 'cpu_us' else 0}f}" for name, _ in FIGURES]
        last = (f"{ratio(row, rows):.2f}", f"{spread(row):.0%}")
        lines.append((row.variant, str(row.connections), row.server, *figures, *last))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = {0, 2}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n in texts else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def document(
    options: Options,
    rows: dict[str, list[Row]],
    pairs: Sequence[Pair] = (),
    flood: Sequence[Phase] = (),
) -> dict[str, object]:
    """Return all there is to know about a run, ready for JSON; `rows` by scenario."""
    return {
        "machine": machine(),
        "method": dataclasses.asdict(options) | {"litellm": str(options.litellm or "")},
        "scenarios": {
            name: [
                dataclasses.asdict(row)
                | {figure_name: figure(row, figure_name) for figure_name, _ in FIGURES}
                | {"ratio_to_nginx": ratio(row, taken)}
                for row in taken
            ]
            for name, taken in rows.items()
        },
        "flood": [dataclasses.asdict(phase) for phase in flood],
        "gateways": [dataclasses.asdict(pair) | medians(pair) for pair in pairs],
    }
