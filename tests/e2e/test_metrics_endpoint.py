"""The metrics of all processes in one scrape (behaviour §15)."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

FAMILIES = {
    "decisions_total": "counter",
    "decision_duration_seconds": "histogram",
    "handler_invocations_total": "counter",
    "ratelimit_remaining": "gauge",
    "tokens_consumed_total": "counter",
    "tokens_remaining": "gauge",
    "token_estimation_accuracy_ratio": "gauge",
    "token_reservation_unused_total": "counter",
    "loop_detected_total": "counter",
    "circuit_state": "gauge",
    "kill_switch_active": "gauge",
    "shadow_mode_active": "gauge",
    "global_shadow_active": "gauge",
    "kill_switch_override_active": "gauge",
    "global_shadow_decisions_total": "counter",
    "kill_switch_override_skips_total": "counter",
    "degraded_decisions_total": "counter",
    "descriptor_missing_total": "counter",
    "limiter_result_total": "counter",
    "route_matches_total": "counter",
    "policy_evaluations_total": "counter",
    "policy_lookup_miss_total": "counter",
    "retry_after_bucket_total": "counter",
    "evaluate_errors_total": "counter",
    "saas_reachable": "gauge",
    "saas_calls_total": "counter",
    "events_sent_total": "counter",
    "config_info": "gauge",
    "build_info": "gauge",
    "bundle_version": "gauge",
}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(text: str) -> tuple[dict[str, str], Samples]:
    """Return the families with their types, and the samples by name and labels."""
    kinds, samples = {}, {}
    for family in text_string_to_metric_families(text):
        suffix = "_total" if family.type == "counter" else ""
        kinds[family.name.removeprefix("fairvisor_") + suffix] = family.type
        for sample in family.samples:
            name = sample.name.removeprefix("fairvisor_")
            key = (name, tuple(sorted(sample.labels.items())))
            assert key not in samples, "a series is there twice"
            samples[key] = sample.value
    return kinds, samples


def scrape(daemon: Any) -> tuple[dict[str, str], Samples]:  # noqa: ANN401 - conftest.py's Daemon
    with daemon.connect() as connection:
        answer = connection.request("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return parse(answer.body.decode())


def decisions(samples: Samples) -> dict[tuple[str, ...], float]:
    return {
        tuple(value for _, value in labels): count
        for (name, labels), count in samples.items()
        if name == "decisions_total"
    }


def test_every_family_is_there_and_decisions_are_exact_in_one_scrape(
    serve: Callable[..., Any], bucket_policy: Callable[..., object]
) -> None:
    policies = [
        bucket_policy("keys", "/key/", "header:x-api-key", 0.0001, 3),
        bucket_policy('odd "\\ name', "/odd/", "header:x-api-key", 0.0001, 3),
    ]
    bundle = {"bundle_version": 3, "policies": policies}
    daemon = serve(bundle, worker_processes=2, shards=3)
    kinds, samples = scrape(daemon)
    assert {name: kinds.get(name) for name in FAMILIES} == FAMILIES
    assert decisions(samples) == {}
    assert samples["bundle_version", ()] == 3

    seen: Counter[int] = Counter()
    connections = [daemon.connect() for _ in range(16)]  # more than one front will have some
    for number, connection in enumerate(connections * 10):
        headers = {"X-Original-URI": f"/key/secret-{number}", "X-API-Key": f"secret-{number % 20}"}
        seen[connection.request(headers=headers).status] += 1
        connection.request(headers={"X-Original-URI": f"/free/{number}"})
        kept = connection
    assert seen == {200: 60, 429: 100}
    assert kept.request(headers={"X-Original-URI": "/odd/", "X-API-Key": "k"}).status == 200
    for connection in connections:
        connection.close()

    _, samples = scrape(daemon)
    assert decisions(samples) == {  # action, policy, reason, route
        ("allow", "keys", "all_rules_passed", "/key/"): 60,
        ("reject", "keys", "rate_limit_exceeded", "/key/"): 100,
        ("allow", "none", "no_matching_policy", "none"): 160,
        ("allow", 'odd "\\ name', "all_rules_passed", "/odd/"): 1,
    }
    durations = [
        count for (name, _), count in samples.items() if name == "decision_duration_seconds_count"
    ]
    assert sum(durations) == 321
    texts = [text for _, labels in samples for pair in labels for text in pair]
    assert not [text for text in texts if "secret" in text or "/free" in text]


def test_what_a_front_had_counted_outlives_it(
    serve: Callable[..., Any],
    bucket_policy: Callable[..., object],
    wait_until: Callable[..., None],
) -> None:
    policy = bucket_policy("keys", "/key/", "header:x-api-key", 0.0001, 3)
    daemon = serve({"bundle_version": 1, "policies": [policy]})
    for _ in range(20):
        daemon.decide("/free")
    scrape(daemon)  # the supervisor has these now
    front = daemon.pids()["front 0"]
    os.kill(front, signal.SIGKILL)
    wait_until(lambda: daemon.pids().get("front 0", front) != front, 10, "a new front")
    daemon.decide("/free")
    _, samples = scrape(daemon)
    assert sum(decisions(samples).values()) == 21
    assert samples["process_restarts_total", (("process", "front"),)] == 1
