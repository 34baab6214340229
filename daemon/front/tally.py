"""Plain counters of one process, collected by the supervisor (behaviour §15).

Nothing here waits or locks: a decision adds integers. A snapshot is a msgpack-able list; snapshots
of several processes add up.
"""

from bisect import bisect_left
from collections import defaultdict

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Upper bounds of `decision_duration_seconds`, in seconds."""

Labels = tuple[str, ...]


class Tally:
    """Counters by (family, labels) and the duration histogram by (route, mode)."""

    __slots__ = ("_counts", "_decisions", "_durations")

    def __init__(self) -> None:
        self._decisions: defaultdict[Labels, int] = defaultdict(int)
        self._counts: defaultdict[tuple[str, Labels], int] = defaultdict(int)
        self._durations: dict[Labels, list[float]] = {}

    def decided(  # noqa: PLR0913 - the labels of one decision
        self, action: str, reason: str, policy: str, route: str, mode: str, seconds: float
    ) -> None:
        """Count one decision and how long it took."""
        self._decisions[action, reason, policy, route] += 1
        durations = self._durations.get((route, mode))
        if durations is None:
            durations = self._durations[route, mode] = [0.0] * (len(BUCKETS) + 2)
        durations[bisect_left(BUCKETS, seconds)] += 1
        durations[-1] += seconds

    def add(self, family: str, labels: Labels = (), amount: int = 1) -> None:
        """Add to any other counter; `family` is its name without the prefix."""
        self._counts[family, labels] += amount

    def snapshot(self) -> list[object]:
        """Return everything counted so far: [counters, histograms]."""
        counters = [["decisions_total", labels, n] for labels, n in self._decisions.items()]
        counters += [[family, labels, n] for (family, labels), n in self._counts.items()]
        return [counters, [[labels, list(values)] for labels, values in self._durations.items()]]
