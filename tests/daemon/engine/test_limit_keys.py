"""Names of counters: whole up to a bound, beyond it a digest that is counted (§4.5)."""

from typing import Any

import pytest

from daemon.engine.engine import Engine
from daemon.engine.evaluation import Evaluation
from daemon.engine.limit_keys import LimitKeys
from daemon.engine.sources import Sources
from daemon.replay import request_of
from protocol.operations import Key
from protocol.placement import encode_key, key_digest, placement
from tests.properties.bundles import compiled

CONFIG = {"tokens_per_second": 1, "burst": 9}
BREAKER = {"enabled": True, "spend_rate_threshold_per_minute": 9, "scope_key": "header:a"}
LOOP = {"enabled": True, "window_seconds": 9, "threshold_identical_requests": 9}
SHARDS = 5


def asked(limit_keys: list[str], headers: dict[str, str], **spec: object) -> Evaluation:
    """Return what one rule asks of the shards where names have at most 20 characters."""
    sources = Sources(draw_id=lambda: bytes(16), shards=SHARDS, keys=LimitKeys(20))
    rule = {
        "name": "r",
        "limit_keys": limit_keys,
        "algorithm": "token_bucket",
        "algorithm_config": CONFIG,
    }
    spec = {"selector": {"pathPrefix": "/"}, "rules": [rule], **spec}
    bundle = compiled({"bundle_version": 1, "policies": [{"id": "p", "spec": spec}]})
    entry: dict[str, Any] = {"path": "/", "headers": headers}
    begun = Engine(bundle, sources).begin(request_of(entry, sources), 10**15)
    assert isinstance(begun, Evaluation)
    return begun


def digested(evaluation: Evaluation) -> int:
    return evaluation.context.sources.keys.digested


@pytest.mark.parametrize(
    ("headers", "key", "digests"),
    [
        ({"a": "x" * 20}, "x" * 20, 0),
        ({"a": "x" * 21}, key_digest("x" * 21), 1),
    ],
)
def test_of_one_limit_key(headers: dict[str, str], key: Key, digests: int) -> None:
    begun = asked(["header:a"], headers)
    assert (begun.keys, digested(begun)) == ([key], digests)


@pytest.mark.parametrize(
    ("b", "key", "digests"),
    [("y" * 6, "9:xxxxxxxxx6:yyyyyy", 0), ("y" * 8, key_digest("9:xxxxxxxxx8:yyyyyyyy"), 1)],
)
def test_of_two_limit_keys(b: str, key: Key, digests: int) -> None:
    begun = asked(["header:a", "header:b"], {"a": "x" * 9, "b": b})
    assert (begun.keys, digested(begun)) == ([key], digests)


def test_all_that_goes_by_a_long_value_meets_in_one_shard() -> None:
    value = "x" * 30
    begun = asked(["header:a"], {"a": value}, loop_detection=LOOP, circuit_breaker=BREAKER)
    assert [check.kind for check in begun.checks] == ["loop", "breaker", "token_bucket"]
    assert set(begun.parts) == {placement(encode_key([value], 20)) % SHARDS}
    assert digested(begun) == 2  # the breaker's and the rule's; a loop's name is a hash anyhow
