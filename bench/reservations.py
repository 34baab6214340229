"""What a way to reserve costs: calls refused without need, and tokens beyond the budget.

`python -m bench.reservations` simulates one tenant in the daemon's own engine and shards, in
simulated time and with a fixed seed, so that every run prints the same table. Refused calls are not
repeated.

The traffic: programs that make 1 to 32 calls at once, at random moments. Prompts have 200 tokens.
Answers are log-normal around 150 tokens (mean about 240, one in 600 above 2,500), never more than
the client's cap of 4,000, and come at 50 tokens a second. The budget is 100,000 tokens a minute.

A call is *needless* to refuse if the minute's budget had room for what it would have used. *Beyond*
is the deepest that really used tokens, charged the moment a call begins, run below the budget.
"""

import heapq
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from random import Random

from daemon.engine.sources import Sources
from daemon.replay import Replay, request_of
from protocol.bundle import MICRO, Bundle
from protocol.bundle_text import load
from protocol.usage import Usage

SEED = 20_260_203
START = 1_770_000_000 * MICRO
MINUTES = 15
BUDGET = 100_000
PROMPT = 200
CAP = 4_000
TOKENS_PER_SECOND = 50
FAN_OUT = 32
MEAN_CALL = PROMPT + 239
LOADS = (0.5, 0.9)
OVERLOAD = 2.0


@dataclass(frozen=True, slots=True)
class Way:
    """One way to reserve: whether clients name their cap, and the rule's settings."""

    name: str
    cap: bool
    config: Mapping[str, object]


WAYS = (
    Way("client's cap of 4,000", cap=True, config={}),
    Way("no cap, `default_max_completion` 1,000", cap=False, config={}),
    Way("no cap, `default_max_completion` 150", cap=False, config={"default_max_completion": 150}),
    Way("client's cap, `learned`", cap=True, config={"reservation": "learned"}),
    Way("no cap, default 1,000, `learned`", cap=False, config={"reservation": "learned"}),
)


@dataclass(slots=True)
class Found:
    """What one run found, in calls and tokens."""

    calls: int = 0
    admitted: int = 0
    needless: int = 0
    used: int = 0
    beyond: float = 0.0


class Oracle:
    """A budget that knows what each call will use; times in microseconds."""

    def __init__(self) -> None:
        self.level = float(BUDGET)
        self._at = START

    def room(self, now: int) -> float:
        """Return what is left."""
        self.level = min(BUDGET, self.level + (now - self._at) * BUDGET / (60 * MICRO))
        self._at = now
        return self.level


def traffic(load: float) -> Iterator[tuple[int, int]]:
    """Yield (moment, completion tokens) of every call at `load` times the budget."""
    random = Random(SEED)  # noqa: S311 - a simulation, the same on every run
    per_second = load * BUDGET / 60 / MEAN_CALL / ((1 + FAN_OUT) / 2)
    now = 0.0
    while (now := now + random.expovariate(per_second)) < MINUTES * 60:
        for _ in range(random.randint(1, FAN_OUT)):
            completion = max(1, min(CAP, round(random.lognormvariate(5.01, 0.96))))
            yield START + int(now * MICRO), completion


def bundle(way: Way) -> Bundle:
    """Return the tenant's policy."""
    rule = {
        "name": "tokens",
        "limit_keys": [],
        "algorithm": "token_bucket_llm",
        "algorithm_config": {"tokens_per_minute": BUDGET, **way.config},
    }
    spec = {"selector": {"pathPrefix": "/"}, "rules": [rule]}
    document = {"bundle_version": 1, "policies": [{"id": "tenant", "spec": spec}]}
    loaded = load(json.dumps(document).encode(), now=0.0)
    if loaded.bundle is None:
        raise ValueError(f"no valid policy: {loaded.errors}")
    return loaded.bundle


def simulate(way: Way, load: float) -> Found:
    """Play the traffic of one load against one way to reserve."""
    ids = (number.to_bytes(16, "big") for number in count())
    sources = Sources(draw_id=lambda: next(ids), shards=1)
    replay = Replay(bundle(way), sources)
    body: dict[str, object] = {
        "model": "m",
        "messages": [{"role": "user", "content": "x" * 4 * PROMPT}],
    }
    if way.cap:
        body["max_tokens"] = CAP
    request = request_of({"method": "POST", "path": "/v1/chat/completions", "body": body}, sources)
    found, oracle = Found(), Oracle()
    running: list[tuple[int, int, int]] = []
    for now, completion in traffic(load):
        while running and running[0][0] <= now:
            ended, number, tokens = heapq.heappop(running)
            replay.settle(number, Usage(PROMPT, tokens, PROMPT + tokens), ended)
        number, finished = replay.decide(request, now)
        total = PROMPT + completion
        room = oracle.room(now)
        found.calls += 1
        if finished.decision.action == "reject":
            found.needless += total <= room
            continue
        found.admitted += 1
        found.used += total
        oracle.level -= total
        found.beyond = max(found.beyond, -oracle.level)
        ends = now + completion * MICRO // TOKENS_PER_SECOND
        heapq.heappush(running, (ends, number, completion))
    return found


def table() -> str:
    """Return the measurements as a table of Markdown."""
    refused = (f"refused without need at {load:.0%} load" for load in LOADS)
    heads = (
        "Reserved for an answer",
        *refused,
        f"of the budget used at {OVERLOAD:.0%} load",
        "most tokens beyond the budget",
    )
    lines = [_row(heads), _row(["---"] * len(heads)).replace(" ", "")]
    whole = BUDGET * (MINUTES + 1)  # the bucket is full at first
    for way in WAYS:
        runs = [simulate(way, load) for load in (*LOADS, OVERLOAD)]
        needless = [f"{run.needless / run.calls:.1%}" for run in runs[:-1]]
        used = f"{runs[-1].used / whole:.0%}"
        lines.append(_row([way.name, *needless, used, f"{max(run.beyond for run in runs):,.0f}"]))
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(table())
