"""The `engine`, `descriptor` and `period` cases through the real engine and the real shard code."""

import json

import pytest

from adapters import native
from daemon.engine.client_address import TrustedProxies
from daemon.engine.context import Context
from daemon.engine.extract import extractor
from daemon.engine.identity import claims_reader
from daemon.engine.sources import Sources
from daemon.llm.usage import of_counts
from daemon.replay import Replay, request_of
from protocol.bundle import JwtPolicy
from protocol.bundle_text import load
from protocol.decision import Decision
from protocol.fields import decision_fields

AREA = "*"
MICRO = 1_000_000


def sources(case: dict, shards: int) -> Sources:
    ids = iter(range(1, 1 << 30))
    proxies = case.get("trusted_proxies")
    options = {"trusted": TrustedProxies.parse(proxies)} if proxies else {}
    return Sources(draw_id=lambda: next(ids).to_bytes(16), shards=shards, **options)


@pytest.mark.parametrize("shards", [1, 3])
def test_engine_case(engine_case: dict, shards: int) -> None:
    run(engine_case, shards)


def test_descriptor_case(descriptor_case: dict) -> None:
    around = sources(descriptor_case, 1)
    request = request_of(descriptor_case["request"], around)
    context = Context(request, around, claims_reader(JwtPolicy(), {}), 0)
    values = {key: extractor(key)(context) for key in descriptor_case["keys"]}
    expected = descriptor_case["expect"]
    assert {key: values[key] for key in expected["values"]} == expected["values"]
    assert [key for key in expected["missing"] if values[key] is not None] == []


def run(case: dict, shards: int) -> None:
    around = sources(case, shards)
    bundle = None
    if case["bundle"] is not None:
        report = load(json.dumps(case["bundle"]).encode(), now=case["steps"][0].get("at", 0))
        assert report.bundle is not None, report.errors
        bundle = report.bundle
    replay = Replay(bundle, around)
    numbers: list[int | None] = []
    for step in case["steps"]:
        number = None
        if step.get("reset_breaker"):
            replay.reset_breakers()
        elif "settle" in step:
            check_settle(replay, step, numbers)
        else:
            number = check_request(replay, step, around)
        numbers.append(number)


def check_settle(replay: Replay, step: dict, numbers: list[int | None]) -> None:
    settle = step["settle"]
    number = numbers[settle["step"]]
    assert number is not None
    result = replay.settle(
        number,
        of_counts(
            *[
                settle["usage"].get(name)
                for name in ("prompt_tokens", "completion_tokens", "total_tokens")
            ]
        ),
        at(step),
    )
    for key, wanted in step.get("expect", {}).items():
        assert getattr(result, key) == wanted, key


def check_request(replay: Replay, step: dict, around: Sources) -> int:
    request = request_of(step["request"], around)
    number = -1
    for _ in range(step.get("repeat", 1)):
        number, finished = replay.decide(request, at(step))
        decision = finished.decision
        check(decision, step.get("expect_each", {}))
    check(decision, step.get("expect", {}))
    return number


def at(step: dict) -> int:
    return round(step["at"] * MICRO)


NAMES = {"rule": "rule_name", "estimated": "reserved"}


def check(decision: Decision, expect: dict) -> None:
    fields = dict(decision_fields(decision))
    head = native.write(decision)[0].decode()
    for name, value in fields.items():
        assert f"\r\n{name}: {value}\r\n" in head
    for key, wanted in expect.items():
        if key == "headers":
            for name, value in wanted.items():
                assert fields.get(name) == value, name
        elif key == "headers_absent":
            assert not [name for name in wanted if name in fields]
        else:
            found = getattr(decision, NAMES.get(key, key))
            if isinstance(wanted, float | int) and not isinstance(wanted, bool):
                assert found == pytest.approx(wanted, abs=1e-6), key
            else:
                assert found == wanted, key
