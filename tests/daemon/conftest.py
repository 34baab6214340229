"""Engine and shards in one process, with everything that a decision leaves behind."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from daemon.engine.engine import Engine, Finished
from daemon.engine.evaluation import Evaluation
from daemon.engine.record import Decided
from daemon.engine.sources import Sources
from protocol.bundle_text import load
from protocol.decision import Decision
from protocol.frames import DECIDE
from protocol.request import Request
from shard.service import ShardService

NOW = 1_770_000_000_000_000
"""2026-02-02T02:40:00Z in microseconds."""


def ask(
    path: str = "/",
    headers: Mapping[str, str] | None = None,
    **parts: Any,  # noqa: ANN401
) -> Request:
    raw = {name.encode(): value.encode() for name, value in (headers or {}).items()}
    return Request(**{"method": "GET", "path": path, "headers": raw, "peer": "192.0.2.7"} | parts)


@dataclass
class Box:
    """One engine with one shard. `answers=False`: the shard never does."""

    engine: Engine
    shard: ShardService
    answers: bool = True

    def evaluate(self, request: Request, now: int = NOW) -> tuple[Evaluation, Finished]:
        evaluation = self.engine.begin(request, now)
        assert isinstance(evaluation, Evaluation)
        if self.answers:
            for shard, item in evaluation.parts.items():
                reply: Any = self.shard.answer([DECIDE, 1, now, [item]])
                evaluation.reply(shard, reply[0], reply[1][0])
        return evaluation, self.engine.finish(evaluation)

    def decide(self, request: Request, now: int = NOW) -> Decided:
        begun = self.engine.begin(request, now)
        if isinstance(begun, Decision):
            return Decided(begun, request, now, 42, self.engine)
        evaluation, finished = self.evaluate(request, now)
        return Decided(
            finished.decision, request, now, 42, self.engine, evaluation, finished.outcome
        )


def box(document: Mapping[str, Any]) -> Box:
    report = load(json.dumps({"bundle_version": 3} | dict(document)).encode(), now=0.0)
    assert report.bundle is not None, report.errors
    engine = Engine(report.bundle, Sources(draw_id=lambda: bytes(16), jitter_key=b"k" * 16), 1)
    shard = ShardService(1 << 20, 3_600_000_000)
    shard.install(1, list(engine.table))
    return Box(engine, shard)


def rule(key: str, name: str = "r", **about: Any) -> dict[str, Any]:  # noqa: ANN401
    config = {"tokens_per_second": 1, "burst": 2}
    basics = {"name": name, "limit_keys": [key], "algorithm": "token_bucket"}
    return basics | {"algorithm_config": config} | about


def policy(*rules: dict[str, Any], name: str = "p", **spec: Any) -> dict[str, Any]:  # noqa: ANN401
    basics = {"selector": {"pathPrefix": "/"}, "rules": list(rules)}
    return {"id": name, "spec": basics | spec}


@dataclass(frozen=True)
class Play:
    """What tests of decisions are written with."""

    box: Callable[[Mapping[str, Any]], Box] = box
    ask: Callable[..., Request] = ask
    rule: Callable[..., dict[str, Any]] = rule
    policy: Callable[..., dict[str, Any]] = policy
    now: int = NOW


@pytest.fixture(scope="session")
def play() -> Play:
    return Play()
