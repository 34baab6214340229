"""The metrics of all processes in one exposition (behaviour §15).

`FAMILIES` is the table of §15. Every family is always present with HELP and TYPE; snapshots of the
fronts (`daemon.front.tally`) add up. A gauge that several fronts report is that of the newest
snapshot in which it changed, the smallest of equally new ones. Other gauges come from shards and
the supervisor.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from daemon.front.tally import BUCKETS

Labels = tuple[str, ...]
PREFIX = "fairvisor_"


@dataclass(frozen=True, slots=True)
class Family:
    """One row of §15."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: Labels = ()


FAMILIES: tuple[Family, ...] = (
    Family(
        "decisions_total", "counter", "Decisions made.", ("action", "reason", "policy", "route")
    ),
    Family("handler_invocations_total", "counter", "Decision requests taken."),
    Family(
        "ratelimit_remaining",
        "gauge",
        "Units left, of the limiter that was last reported.",
        ("window", "policy", "route"),
    ),
    Family("tokens_consumed_total", "counter", "Tokens charged.", ("type", "policy", "route")),
    Family("tokens_remaining", "gauge", "Tokens left.", ("window", "policy", "route")),
    Family(
        "token_estimation_accuracy_ratio",
        "gauge",
        "Actual tokens divided by the estimate.",
        ("route", "estimator"),
    ),
    Family("token_reservation_unused_total", "counter", "Tokens given back.", ("route",)),
    Family("loop_detected_total", "counter", "Requests found to loop.", ("route",)),
    Family("circuit_state", "gauge", "1 while a spend circuit breaker is open.", ("target",)),
    Family("kill_switch_active", "gauge", "1 while a kill switch is in force.", ("scope",)),
    Family("shadow_mode_active", "gauge", "1 for a policy in shadow mode.", ("scope",)),
    Family("global_shadow_active", "gauge", "1 while global shadow is in force."),
    Family("kill_switch_override_active", "gauge", "1 while kill switches are overridden."),
    Family("global_shadow_decisions_total", "counter", "Decisions in global shadow.", ("mode",)),
    Family("kill_switch_override_skips_total", "counter", "Requests that skipped kill switches."),
    Family(
        "degraded_decisions_total",
        "counter",
        "Decisions without a counter's owner.",
        ("policy", "outcome"),
    ),
    Family(
        "owner_unavailable_total",
        "counter",
        "Questions to a shard without an answer in time: timeout, its queue full, link down, lost.",
        ("shard", "why"),
    ),
    Family("descriptor_missing_total", "counter", "Limit keys without a value.", ("key",)),
    Family("limiter_result_total", "counter", "Verdicts of limiters.", ("algorithm", "allowed")),
    Family("route_matches_total", "counter", "Requests by whether a policy matched.", ("matched",)),
    Family("policy_evaluations_total", "counter", "Evaluations of a policy.", ("policy_id",)),
    Family("policy_lookup_miss_total", "counter", "Failed policy look-ups.", ("policy_id",)),
    Family("retry_after_bucket_total", "counter", "Retry-After values sent.", ("bucket",)),
    Family("evaluate_errors_total", "counter", "Requests that could not be decided.", ("reason",)),
    Family("saas_reachable", "gauge", "1 while the control plane answers."),
    Family("saas_calls_total", "counter", "Control plane calls.", ("operation", "status")),
    Family("events_sent_total", "counter", "Events sent to the control plane.", ("status",)),
    Family("config_info", "gauge", "The active bundle.", ("version", "hash")),
    Family("build_info", "gauge", "The running build.", ("version",)),
    Family("bundle_version", "gauge", "Version of the active bundle."),
    Family("counters", "gauge", "Counters held, per shard.", ("shard",)),
    Family("counters_evicted_total", "counter", "Counters dropped for memory.", ("shard",)),
    Family(
        "keys_digested_total",
        "counter",
        "Limit keys that were too long to be kept: their counters go by a digest.",
    ),
    Family("reservations", "gauge", "Reservations waiting for settlement.", ("shard",)),
    Family(
        "reservations_expired_total",
        "counter",
        "Reservations never settled, which stay charged.",
        ("shard",),
    ),
    Family(
        "reservations_dropped_total",
        "counter",
        "Reservations that made room for newer ones, and stay charged.",
        ("shard",),
    ),
    Family("settlements_total", "counter", "Proxied exchanges settled.", ("outcome",)),
    Family(
        "reservations_kept_total",
        "counter",
        "Proxied exchanges charged as estimated: what they used is not known.",
        ("why",),
    ),
    Family(
        "charges_unconfirmed_total",
        "counter",
        "Charges that may stay because a shard's link broke.",
        ("kind",),
    ),
    Family(
        "store_degraded",
        "gauge",
        "1 while a shard's counters are in memory only because they cannot be stored.",
        ("shard",),
    ),
    Family("store_folding_failed", "gauge", "1 while the database of counters is not written."),
    Family("store_database_bytes", "gauge", "Size of the database of counters."),
    Family("store_log_bytes", "gauge", "Size of the logs that wait to be folded into it."),
    Family("process_restarts_total", "counter", "Child processes restarted.", ("process",)),
    Family(
        "series_folded_total",
        "counter",
        "What was counted under `other`: there are as many series of its metric as may be.",
    ),
    Family(
        "process_hung_total",
        "counter",
        "Child processes replaced because they did not answer.",
        ("process",),
    ),
    Family("process_crash_looping", "gauge", "Child processes that keep ending.", ("process",)),
    Family("records_dropped_total", "counter", "Decision records that could not be written."),
    Family("connections", "gauge", "Open client connections."),
    Family(
        "connections_refused_total",
        "counter",
        "Connections over a limit: the listener's, or the peer's.",
        ("reason",),
    ),
    Family(
        "connections_closed_total",
        "counter",
        "Connections that used up their time: idle, answers unread, a body too slow.",
        ("why",),
    ),
    Family(
        "requests_refused_total",
        "counter",
        "What was answered without being a request: malformed, or beyond a bound.",
        ("why",),
    ),
    Family("upstream_connections", "gauge", "Open connections to upstreams."),
    Family(
        "upstream_failures_total",
        "counter",
        "Requests without a whole answer: upstream unreachable, unanswered, timeout, broken.",
        ("failure",),
    ),
    Family(
        "upstream_waits_total",
        "counter",
        "Requests that found no free place among the connections to upstreams.",
    ),
    Family("request_body_bytes", "gauge", "Bytes of request bodies that are held."),
)

SUMMED_GAUGES = ("connections", "request_body_bytes", "upstream_connections")
"""Gauges of fronts that add up, as counters do."""


@dataclass(slots=True)
class Totals:
    """Snapshots added up."""

    counts: defaultdict[tuple[str, Labels], float] = field(
        default_factory=lambda: defaultdict(float)
    )
    durations: dict[Labels, list[float]] = field(default_factory=dict)
    gauges: dict[tuple[str, Labels], tuple[float, float]] = field(default_factory=dict)

    def add(self, snapshot: object) -> None:
        """Add one front's snapshot."""
        if not isinstance(snapshot, list):
            return
        counters, histograms, gauges = snapshot
        for family, labels, count in counters:
            self.counts[family, tuple(labels)] += count
        for labels, values in histograms:
            key = tuple(labels)
            sums = self.durations.setdefault(key, [0.0] * len(values))
            self.durations[key] = [a + b for a, b in zip(sums, values, strict=True)]
        for family, labels, value, changed in gauges:
            self._gauge((family, tuple(labels)), value, changed)

    def snapshot(self) -> list[object]:
        """Return the sums as a snapshot, without gauges: they are true of a moment only."""
        counts = [[family, labels, count] for (family, labels), count in self.counts.items()]
        return [counts, [[labels, values] for labels, values in self.durations.items()], []]

    def _gauge(self, key: tuple[str, Labels], value: float, changed: float) -> None:
        known = self.gauges.get(key)
        if known is None or (-changed, value) < (-known[1], known[0]):
            self.gauges[key] = value, changed

    def set(self, family: str, value: float, labels: Labels = ()) -> None:
        """Set a value that only the supervisor knows."""
        self.counts[family, labels] = value

    def raise_to(self, family: str, value: float, labels: Labels) -> None:
        """Set a value unless a larger one is set: several causes, one label."""
        self.counts[family, labels] = max(value, self.counts[family, labels])


def render(totals: Totals) -> bytes:
    """Return the Prometheus text exposition of all families."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(totals))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        samples: defaultdict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for (name, labels), value in self._totals.counts.items():
            samples[name].append((labels, value))
        for (name, labels), (value, _) in self._totals.gauges.items():
            samples[name].append((labels, value))
        for family in FAMILIES:
            yield _metric(family, sorted(samples[family.name]))
        yield _durations(self._totals.durations)

    def describe(self) -> Iterable[Metric]:
        return ()


def _metric(family: Family, samples: Sequence[tuple[Labels, float]]) -> Metric:
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric: Metric = kind(PREFIX + family.name, family.help, labels=family.labels)
    if not samples and not family.labels:
        samples = [((), 0.0)]
    for labels, value in samples:
        metric.add_metric(labels, value)  # type: ignore[attr-defined]  # both kinds have it
    return metric


def _durations(durations: dict[Labels, list[float]]) -> Metric:
    metric = HistogramMetricFamily(
        PREFIX + "decision_duration_seconds",
        "Time from a complete request to its answer, delays not included.",
        labels=("route", "mode"),
    )
    for labels, values in sorted(durations.items()):
        running, buckets = 0.0, []
        bounds = [*map(str, BUCKETS), "+Inf"]
        for bound, count in zip(bounds, values[:-1], strict=True):
            running += count
            buckets.append((bound, running))
        metric.add_metric(labels, buckets, values[-1])
    return metric
