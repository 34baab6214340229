"""CPU time of a whole server: a process with all its descendants, from /proc (Linux)."""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/<pid>/stat. `ticks` is user + system time, with reaped children's."""

    pid: int
    parent: int
    ticks: int
    started: int


def parse_stat(line: str) -> Process:
    """Parse a line of /proc/<pid>/stat, whose second field may hold spaces and parentheses.

    Source: proc(5), fields 4 (ppid), 14-17 (utime, stime, cutime, cstime), 22 (starttime).
    """
    pid, _, rest = line.partition(" (")
    fields = rest[rest.rindex(")") + 2 :].split()
    return Process(
        pid=int(pid),
        parent=int(fields[1]),
        ticks=sum(map(int, fields[11:15])),
        started=int(fields[19]),
    )


def tree(root: int) -> list[Process]:
    """Return process `root` and its descendants, `root` first; empty if it is gone."""
    children: dict[int, list[Process]] = defaultdict(list)
    found: list[Process] = []
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            process = parse_stat((folder / "stat").read_text(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        children[process.parent].append(process)
        if process.pid == root:
            found.append(process)
    for process in found:
        found.extend(children[process.pid])
    return found


def seconds(processes: list[Process]) -> float:
    """Return the CPU time of `processes` in seconds, to the kernel's tick (10 ms)."""
    return sum(process.ticks for process in processes) / TICKS_PER_SECOND
