"""Plain counters of one process, collected by the supervisor (behaviour §15).

Theory
- Nothing here waits or locks. A plain decision adds three integers: one by its outcome, one per
  limiter that granted, one to the duration histogram; it leaves its figures behind for the gauges.
- What follows from these is worked out when a snapshot is taken, every few seconds: which policies
  were evaluated (those that matched, up to the one that refused), whether a policy matched at all,
  how many requests there were, verdicts by algorithm.
- Labels name policies, routes and the like, never what a client chose; but bundles come and go,
  and what they named stays counted. So a family has at most `max_series` series in a process; what
  is beyond is counted under `other`, and `series_folded_total` says so.
- Counters of several processes add up. A gauge carries the time of the snapshot it changed in: the
  newest wins, of equally new ones the smallest (`daemon.supervisor.metrics`).
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

from daemon.engine.checks import Check
from daemon.engine.engine import Finished, active
from daemon.engine.evaluation import Evaluation, granted
from protocol.bundle import Bundle, LlmBudget
from protocol.decision import Decision
from protocol.operations import Verdict

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Upper bounds of `decision_duration_seconds`, in seconds."""

OTHER = "other"
"""Stands for the labels of a series too many."""

Labels = tuple[str, ...]
_Outcome = tuple[str, str, str | None, str, tuple[str, ...]]

_UNROUTED = frozenset(
    {"kill_switch_active", "invalid_token", "no_bundle_loaded", "service_unavailable"}
)
"""Reasons that come before routing: whether a policy matched is not known."""


class Tally:
    """Counters by (family, labels), the duration histogram by (route, mode), and gauges."""

    __slots__ = (
        "_counts",
        "_decisions",
        "_duration",
        "_durations",
        "_gauges",
        "_granted",
        "_key",
        "_last",
        "_left",
        "_max_series",
        "_reported",
        "_series",
    )

    def __init__(self, max_series: int = 10_000) -> None:
        self._max_series = max_series
        self._series: defaultdict[str, int] = defaultdict(int)
        self._decisions: defaultdict[_Outcome, int] = defaultdict(int)
        self._counts: defaultdict[tuple[str, Labels], int] = defaultdict(int)
        self._durations: dict[Labels, list[float]] = {}
        self._granted: defaultdict[Check, int] = defaultdict(int)
        self._reported: dict[Check, Decision] = {}
        self._left: dict[Check, Verdict] = {}
        self._gauges: dict[tuple[str, Labels], tuple[float, int]] = {}
        self._last: tuple[Decision | None, str] = (None, "")
        self._key: _Outcome = ("", "", None, "", ())
        self._duration: list[float] = []

    def decided(self, decision: Decision, mode: str, seconds: float) -> None:
        """Count one decision and how long it took."""
        # Where no policy matches it is the same object every time: half the work.
        if decision is self._last[0] and mode == self._last[1]:
            self._decisions[self._key] += 1
            durations = self._duration
        else:
            durations = self._look_up(decision, mode)
        durations[bisect_left(BUCKETS, seconds)] += 1
        durations[-1] += seconds

    def _look_up(self, decision: Decision, mode: str) -> list[float]:
        """Count a decision; return its durations."""
        route = decision.route
        key = (decision.action, decision.reason, decision.policy_id, route, decision.matched)
        self._decisions[key] += 1
        durations = self._durations.get((route, mode))
        if durations is None:
            durations = self._new_durations(route, mode)
        self._last, self._key, self._duration = (decision, mode), key, durations
        return durations

    def _new_durations(self, route: str, mode: str) -> list[float]:
        if len(self._durations) >= self._max_series:
            self._counts["series_folded_total", ()] += 1
            route = OTHER
        return self._durations.setdefault((route, mode), [0.0] * (len(BUCKETS) + 2))

    def evaluated(self, evaluation: Evaluation, finished: Finished) -> None:
        """Count what the limiters of one evaluation said."""
        decision, outcome = finished.decision, finished.outcome
        if outcome is None:
            return
        # The branches of a plain decision cost 0.3 µs; what is rare is counted elsewhere.
        if outcome.refused_at is None and outcome.shadowed is None and not decision.degraded:
            granted_by = self._granted
            for check in evaluation.checks:
                granted_by[check] += 1
        else:
            self._verdicts(evaluation, finished)
        if outcome.tightest is not None and outcome.refused_at is None:
            self._reported[outcome.tightest[0]] = decision
        if evaluation.reservation and decision.action != "reject":
            self._reserved(evaluation)
        if outcome.warning is not None or decision.loop_count or outcome.shadowed is not None:
            self._loops(evaluation, outcome.refused_at)
        if evaluation.missing:
            for _, key in evaluation.missing:
                self.add("descriptor_missing_total", (key,))

    def settled(
        self, check: Check, reserved: int, actual: int, now: int, *, known: bool = True
    ) -> None:
        """Count what an LLM limiter got back or had to add; amounts in tokens.

        `known`: `actual` is a figure and not the estimate that stands for want of one.
        """
        config = check.rule.algorithm if check.rule else None
        if not isinstance(config, LlmBudget):
            return
        route = check.route
        self.add("tokens_consumed_total", ("actual", check.policy_id, route), actual)
        self.add("token_reservation_unused_total", (route,), max(0, reserved - actual))
        if reserved and known:
            ratio = actual / reserved
            self.gauge("token_estimation_accuracy_ratio", (route, config.estimator), ratio, now)

    def overridden(self, decision: Decision, bundle: Bundle, now: int) -> None:
        """Count a decision made while an override block is in force (§2.2)."""
        if active(bundle.global_shadow, now):
            self.add("global_shadow_decisions_total", (decision.mode,))
        if active(bundle.kill_switch_override, now):
            self.add("kill_switch_override_skips_total")

    def add(self, family: str, labels: Labels = (), amount: int = 1) -> None:
        """Add to any other counter; `family` is its name without the prefix."""
        key = (family, labels)
        if key not in self._counts and labels:
            if self._series[family] >= self._max_series:
                self._counts["series_folded_total", ()] += amount
                key = (family, (OTHER,) * len(labels))
            else:
                self._series[family] += 1
        self._counts[key] += amount

    def put(self, family: str, total: int, labels: Labels = ()) -> None:
        """Set a counter that is kept elsewhere."""
        self._counts[family, labels] = total

    def gauge(self, family: str, labels: Labels, value: float, now: int) -> None:
        """Set a gauge; `now` in microseconds since the epoch."""
        key = (family, labels)
        if key in self._gauges or len(self._gauges) < self._max_series:
            self._gauges[key] = (value, now)

    def forget_gauges(self) -> None:
        """Drop gauges: another bundle may not have what they speak of."""
        self._gauges.clear()
        self._reported.clear()
        self._left.clear()

    def snapshot(self, now: int) -> list[object]:
        """Return everything counted so far: [counters, histograms, gauges].

        `now` in microseconds since the epoch. Counters are [family, labels, count], histograms
        [labels, values], gauges [family, labels, value, time].
        """
        self._settle(now)
        counters = [[family, labels, n] for (family, labels), n in self._counts.items()]
        histograms = [[labels, list(values)] for labels, values in self._durations.items()]
        gauges = [[family, labels, *each] for (family, labels), each in self._gauges.items()]
        return [counters, histograms, gauges]

    def _settle(self, now: int) -> None:
        """Turn what decisions left behind into counters and gauges with labels."""
        for (family, named), n in _derived(self._decisions).items():
            self.add(family, named, n)
        self._decisions.clear()
        for check, count in self._granted.items():
            if check.rule is not None:
                self.add("limiter_result_total", (check.kind, "true"), count)
        # Emptied, because a check holds on to the bundle it belongs to.
        self._granted.clear()
        for check, decision in self._reported.items():
            limit = decision.fields
            if limit is not None:
                labels = (str(limit.window), check.policy_id, check.route)
                self.gauge("ratelimit_remaining", labels, limit.remaining, now)
        self._reported.clear()
        for check, verdict in self._left.items():
            if isinstance(verdict, list):
                for window, left in zip(("tpm", "tpd"), verdict, strict=False):
                    if left is not None:
                        labels = (window, check.policy_id, check.route)
                        self.gauge("tokens_remaining", labels, left, now)
        self._left.clear()

    def _verdicts(self, evaluation: Evaluation, finished: Finished) -> None:
        """Count the verdicts of an evaluation in which something refused or did not answer."""
        outcome, stops = finished.outcome, evaluation.stops
        refused_at = outcome.refused_at if outcome else None
        for index, check in enumerate(evaluation.checks):
            if refused_at is not None and index > refused_at:
                break
            verdict = evaluation.verdict(index)
            stopped = stops.get(check.segment)
            if check.rule is None or verdict is None or (stopped is not None and index > stopped):
                continue
            allowed = "true" if granted(verdict) else "false"
            self.add("limiter_result_total", (check.kind, allowed))
        if outcome is None:
            return
        for labels in outcome.degraded:
            self.add("degraded_decisions_total", labels)
        if refused_at is not None and finished.decision.fields is not None:
            self._reported[evaluation.checks[refused_at]] = finished.decision

    def _reserved(self, evaluation: Evaluation) -> None:
        """Count the tokens that an admitted request reserved, of shadow policies too."""
        for index, check in enumerate(evaluation.checks):
            cost = evaluation.costs[index]
            if check.kind != "token_bucket_llm" or not isinstance(cost, int):
                continue
            verdict = evaluation.verdict(index)
            if verdict is not None and granted(verdict) and check.segment not in evaluation.stops:
                labels = ("reserved", check.policy_id, check.route)
                self.add("tokens_consumed_total", labels, cost)
                if not check.shadow:
                    self._left[check] = verdict

    def _loops(self, evaluation: Evaluation, refused_at: int | None) -> None:
        """Count a request once per policy that found it to loop."""
        for index, check in enumerate(evaluation.checks):
            if refused_at is not None and index > refused_at:
                break
            verdict = evaluation.verdict(index)
            if check.loop is None or verdict is None:
                continue
            count = verdict if isinstance(verdict, int) else verdict[0] or 0
            if not granted(verdict) or count >= check.loop.threshold:
                self.add("loop_detected_total", (check.route,))


def _derived(decisions: dict[_Outcome, int]) -> dict[tuple[str, Labels], int]:
    """Return the counters that follow from the decisions."""
    counts: defaultdict[tuple[str, Labels], int] = defaultdict(int)
    for (action, reason, policy, route, matched), count in decisions.items():
        labels = (action, reason, policy or "none", route)
        counts["decisions_total", labels] += count
        counts["handler_invocations_total", ()] += count
        if reason not in _UNROUTED:
            found = "false" if reason == "no_matching_policy" else "true"
            counts["route_matches_total", (found,)] += count
        for each in _evaluated(action, policy, matched):
            counts["policy_evaluations_total", (each,)] += count
    return counts


def _evaluated(action: str, policy: str | None, matched: Sequence[str]) -> Sequence[str]:
    """Return the policies that were reached: all that matched, or those up to the refusing one."""
    if action == "reject" and policy in matched:
        return matched[: matched.index(policy) + 1]
    return matched
