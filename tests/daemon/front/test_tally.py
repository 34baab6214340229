from collections import defaultdict
from typing import TYPE_CHECKING, Any

from daemon.engine.engine import NO_BUNDLE
from daemon.front.tally import Tally
from daemon.supervisor.metrics import Totals
from protocol.decision import Decision

if TYPE_CHECKING:
    from tests.daemon.conftest import Box, Play

LLM = {"tokens_per_minute": 100, "tokens_per_day": 250, "default_max_completion": 40}


def run(box: "Box", tally: Tally, *requests: Any, now: int) -> None:  # noqa: ANN401
    for request in requests:
        evaluation, finished = box.evaluate(request, now)
        tally.evaluated(evaluation, finished)
        tally.decided(finished.decision, "decision_service", 0.001)


def figures(tally: Tally, now: int) -> dict[str, dict[tuple[str, ...], float]]:
    totals = Totals()
    totals.add(tally.snapshot(now))
    found: defaultdict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
    for (family, labels), value in totals.counts.items():
        found[family][labels] = value
    for (family, labels), (value, _) in totals.gauges.items():
        found[family][labels] = value
    return found


def test_every_decision_is_one_increment_of_one_series(play: "Play") -> None:
    tally = Tally()
    box = play.box({"policies": [play.policy(play.rule("ip:address"))]})
    run(box, tally, *[play.ask()] * 5, now=play.now)
    tally.decided(NO_BUNDLE, "decision_service", 0.1)
    found = figures(tally, play.now)
    assert found["decisions_total"] == {
        ("allow", "all_rules_passed", "p", "/"): 2,
        ("reject", "rate_limit_exceeded", "p", "/"): 3,
        ("reject", "no_bundle_loaded", "none", "none"): 1,
    }
    assert found["handler_invocations_total"] == {(): 6}
    assert found["route_matches_total"] == {("true",): 5}
    assert found["limiter_result_total"] == {
        ("token_bucket", "true"): 2,
        ("token_bucket", "false"): 3,
    }


def test_policies_are_evaluated_up_to_the_one_that_refuses(play: "Play") -> None:
    tally = Tally()
    tight = {"tokens_per_second": 1, "burst": 1}
    policies = [
        play.policy(play.rule("ip:address"), name="a"),
        play.policy(play.rule("ip:address", algorithm_config=tight), name="b"),
        play.policy(play.rule("ip:address"), name="c"),
    ]
    run(play.box({"policies": policies}), tally, play.ask(), play.ask(), now=play.now)
    found = figures(tally, play.now)
    assert found["policy_evaluations_total"] == {("a",): 2, ("b",): 2, ("c",): 1}
    assert found["limiter_result_total"] == {
        ("token_bucket", "true"): 4,
        ("token_bucket", "false"): 1,
    }


def test_counts_of_several_snapshots_are_totals_not_differences(play: "Play") -> None:
    tally = Tally()
    box = play.box({"policies": [play.policy(play.rule("ip:address"))]})
    for rounds in (1, 2):
        run(box, tally, play.ask(), now=play.now)
        assert figures(tally, play.now)["limiter_result_total"] == {
            ("token_bucket", "true"): rounds
        }


def test_gauges_follow_the_last_report(play: "Play") -> None:
    tally = Tally()
    box = play.box({"policies": [play.policy(play.rule("ip:address"))]})
    label = ("2", "p", "/")
    for left in (1, 0, 0):
        run(box, tally, play.ask(), now=play.now)
        assert figures(tally, play.now)["ratelimit_remaining"] == {label: left}
    tally.forget_gauges()
    assert figures(tally, play.now)["ratelimit_remaining"] == {}


def test_tokens_are_counted_as_reserved_and_left(play: "Play") -> None:
    tally = Tally()
    llm = play.rule("ip:address", algorithm="token_bucket_llm", algorithm_config=LLM)
    box = play.box({"policies": [play.policy(llm)]})
    run(box, tally, *[play.ask()] * 3, now=play.now)
    found = figures(tally, play.now)
    assert found["tokens_consumed_total"] == {("reserved", "p", "/"): 80}
    assert found["tokens_remaining"] == {("tpm", "p", "/"): 20, ("tpd", "p", "/"): 170}
    assert found["limiter_result_total"][("token_bucket_llm", "false")] == 1


def test_a_settlement_tells_how_good_the_estimate_was(play: "Play") -> None:
    tally = Tally()
    llm = play.rule("ip:address", algorithm="token_bucket_llm", algorithm_config=LLM)
    box = play.box({"policies": [play.policy(llm, play.rule("ip:address", "s"))]})
    for check in box.engine.checks.values():
        tally.settled(check, 40, 10, play.now)
        tally.settled(check, 40, 60, play.now)
    found = figures(tally, play.now)
    assert found["tokens_consumed_total"] == {("actual", "p", "/"): 70}
    assert found["token_reservation_unused_total"] == {("/",): 30}
    assert found["token_estimation_accuracy_ratio"] == {("/", "simple_word"): 1.5}


def test_loops_count_for_the_policy_that_saw_them(play: "Play") -> None:
    tally = Tally()
    loop = {"enabled": True, "window_seconds": 9, "threshold_identical_requests": 2}
    policies = [
        play.policy(loop_detection=loop | {"action": "warn"}, name="a"),
        play.policy(loop_detection=loop | {"action": "throttle"}, name="b"),
        play.policy(name="c", mode="shadow", loop_detection=loop),
    ]
    run(play.box({"policies": policies}), tally, *[play.ask()] * 2, now=play.now)
    assert figures(tally, play.now)["loop_detected_total"] == {("/",): 3}


def test_missing_descriptors_and_silent_shards_count(play: "Play") -> None:
    tally = Tally()
    rules = [play.rule("jwt:org"), play.rule("ip:address", "s")]
    box = play.box({"policies": [play.policy(*rules)]})
    box.answers = False
    run(box, tally, play.ask(), now=play.now)
    found = figures(tally, play.now)
    assert found["descriptor_missing_total"] == {("jwt:org",): 1}
    assert found["degraded_decisions_total"] == {("p", "allow"): 1}
    assert found["limiter_result_total"] == {}


def test_overrides_count_while_they_are_in_force(play: "Play") -> None:
    tally = Tally()
    block = {"enabled": True, "reason": "drill", "expires_at": "2026-02-02T02:50:00Z"}
    box = play.box(
        {
            "policies": [play.policy(play.rule("ip:address"))],
            "global_shadow": block,
            "kill_switch_override": block,
        }
    )
    for now in [play.now] * 3 + [play.now + 600_000_000]:
        decision = box.decide(play.ask(), now).decision
        tally.overridden(decision, box.engine.bundle, now)
    found = figures(tally, play.now)
    assert found["global_shadow_decisions_total"] == {("enforce",): 2, ("shadow",): 1}
    assert found["kill_switch_override_skips_total"] == {(): 3}


def test_a_figure_kept_elsewhere_is_set_not_added() -> None:
    tally = Tally()
    tally.put("records_dropped_total", 4)
    tally.put("records_dropped_total", 6)
    assert figures(tally, 0)["records_dropped_total"] == {(): 6}


def test_series_are_bounded_and_nothing_is_lost() -> None:
    tally = Tally(max_series=5)
    for number in range(100):
        tally.add("policy_evaluations_total", (f"p{number}",))
        tally.gauge("circuit_state", (f"p{number}",), 1.0, 7)
        tally.decided(Decision(route=f"/{number}"), "decision_service", 0.001)
    tally.add("policy_evaluations_total", ("p0",))
    tally.add("other_family", ("x",))
    counters, histograms, gauges = tally.snapshot(0)
    by_family: dict[str, list[int]] = {}
    for family, _, count in counters:
        by_family.setdefault(family, []).append(count)
    assert len(by_family["policy_evaluations_total"]) == 6
    assert sum(by_family["policy_evaluations_total"]) == 101
    assert ["policy_evaluations_total", ("other",), 95] in counters
    assert (len(by_family["decisions_total"]), sum(by_family["decisions_total"])) == (6, 100)
    assert ["other_family", ("x",), 1] in counters
    assert sum(by_family["series_folded_total"]) == 3 * 95
    assert (len(histograms), sum(sum(each[:-1]) for _, each in histograms)) == (6, 100)
    assert len(gauges) == 5
