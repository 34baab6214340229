"""Kill processes under load, and hold what clients were answered against the counters."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.e2e.conftest import wait_for
from tests.faults.clients import Books, asking
from tests.faults.stage import LATE, Stage, request_for

BETWEEN = 150
"""Requests that are answered, at least, before the next kill."""
CLIENTS = 8


@dataclass
class Report:
    """What became of it. `units` are on the counters; `gap` is what they are more than answers."""

    kills: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    refused: int = 0
    broken: int = 0
    units: int = 0

    @property
    def gap(self) -> int:
        """Units that were charged and not answered 200."""
        return self.units - self.answered

    def __str__(self) -> str:
        kills = ", ".join(f"{count} {role}" for role, count in sorted(self.kills.items()))
        return (
            f"killed {kills}; answered 200: {self.answered}, 503: {self.refused}, broken off:"
            f" {self.broken}; units: {self.units}, gap: {self.gap}"
        )


def roles_of(stage: Stage) -> list[str]:
    """Return every process of the daemon by its title."""
    return sorted(stage.running.pids())


def kill_under_load(
    stage: Stage,
    roles: Sequence[str],
    keys: Sequence[str],
    seed: int,
    pause: float = 0.0,
) -> Report:
    """Kill `roles` in turn, each at a random moment; `pause` is the longest wait before it."""
    rng = random.Random(seed)
    before = sum(stage.spent(keys).values()) + len(keys)
    report = Report()
    with asking(stage.where, [request_for(key) for key in keys], CLIENTS) as books:
        for role in roles:
            _go_on(books)
            time.sleep(rng.uniform(0, 0.02) + rng.uniform(0, pause))
            stage.kill(role)
            report.kills[role.split()[0]] += 1
        _go_on(books)
    assert set(books.statuses) <= {200, 503}, books.statuses
    report.answered, report.refused = books.answered, books.statuses[503]
    report.broken = books.broken
    report.units = sum(stage.spent(keys).values()) - before
    return report


def _go_on(books: Books) -> None:
    goal = books.answered + BETWEEN
    wait_for(
        lambda: books.answered >= goal or books.failure is not None, LATE, "requests are answered"
    )
