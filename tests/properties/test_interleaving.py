"""No over-admission, and a refusal leaves nothing, in whatever order frames arrive (§5.2, §13).

Rates are next to nothing here and the few seconds of a run stay within every window, so that what
a counter holds is the plain sum of what was charged to it.
"""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.engine.checks import Check
from protocol.operations import Key, Verdict
from protocol.usage import Usage
from shard.tables import CounterTable
from tests.properties.bundles import START, compiled
from tests.properties.network import MICRO, Exchange, Json, Network
from tests.properties.profiles import profile

NOW = (START + 5) * MICRO
SKEWS = (-900_000, -1000, 0, 3, 900_000)
"""Microseconds; what frames are held up comes on top, and MAX_SKEW bounds the sum."""
STAGES = [{"threshold_percent": 100, "action": "reject"}]
BUCKET = {"tokens_per_second": 1e-9, "burst": 4, "cost_source": "header:weight"}
WINDOW = {"limit": 6, "window_seconds": 3600}
BUDGET = {"budget": 8, "period": "1d", "cost_key": "header:weight", "staged_actions": STAGES}
TOKENS = {"budget": 60, "period": "1d", "cost_key": "llm:tokens", "staged_actions": STAGES,
          "default_max_completion": 3}  # fmt: skip
LLM = {"tokens_per_minute": 1e-6, "burst_tokens": 50, "default_max_completion": 5,
       "max_prompt_tokens": 20}  # fmt: skip
DAILY = LLM | {"tokens_per_day": 40}
ALGORITHMS: list[tuple[str, Json]] = [
    ("token_bucket", BUCKET),
    ("sliding_window", WINDOW),
    ("cost_based", BUDGET),
    ("cost_based", TOKENS),
    ("token_bucket_llm", LLM),
    ("token_bucket_llm", DAILY),
]
KEYS = (["header:org"], ["header:user"], ["query:team"], ["header:org", "query:team"])


@st.composite
def documents(draw: st.DrawFn) -> Json:
    policies = []
    for name in "abc"[: draw(st.integers(1, 3))]:
        rules = []
        for number in range(draw(st.integers(1, 3))):
            algorithm, config = draw(st.sampled_from(ALGORITHMS))
            rule = {"name": f"r{number}", "algorithm": algorithm, "algorithm_config": config}
            rule["limit_keys"] = list(draw(st.sampled_from(KEYS)))
            rule["on_error"] = draw(st.sampled_from(["allow", "reject"]))
            rule["on_missing"] = draw(st.sampled_from(["skip", "skip", "reject"]))
            rules.append(rule)
        spec: Json = {"selector": {"pathPrefix": "/"}, "rules": rules}
        spec["mode"] = draw(st.sampled_from(["enforce", "enforce", "shadow"]))
        if draw(st.booleans()):
            action = draw(st.sampled_from(["reject", "warn"]))
            spec["loop_detection"] = {"enabled": True, "window_seconds": 3600, "action": action,
                                      "threshold_identical_requests": 3}  # fmt: skip
        if draw(st.booleans()):
            spec["circuit_breaker"] = {"enabled": True, "spend_rate_threshold_per_minute": 30}
        policies.append({"id": name, "spec": spec})
    return {"bundle_version": 1, "policies": policies}


def entry(choice: int) -> Json:
    """Return one of 108 requests; few enough to meet each other in every counter."""
    choice, org = divmod(choice, 2)
    choice, user = divmod(choice, 3)
    choice, team = divmod(choice, 3)
    choice, weight = divmod(choice, 3)
    headers = {"org": "xy"[org], "user": "uvw"[user], "weight": str(weight + 1)}
    if choice % 2:
        headers["x-token-estimate"] = "6"
    query = {"team": ["red", "blue"][team]} if team < 2 else {}
    return {"method": "POST", "path": "/", "headers": headers, "query": query}


tapes = st.lists(st.integers(0, 1 << 24), min_size=10, max_size=150)
worlds = st.tuples(documents(), st.tuples(st.sampled_from(SKEWS), st.sampled_from(SKEWS)))


def play(network: Network, tape: list[int], *, timeouts: bool, deaths: bool) -> None:
    """Let the tape choose what happens next, and check after every event."""
    for number in tape:
        choice, what = divmod(number, 16)
        events = network.events()
        if what < 4 or not events:
            network.ask(choice % 2, entry(choice // 2))
        elif what == 4:
            network.now += choice % (1000 if events else MICRO // 5)
        elif what == 5:
            settle_one(network, choice)
        elif what == 6 and timeouts:
            strikes = network.timeouts()
            if strikes:
                strikes[choice % len(strikes)]()
        elif what == 7 and deaths and choice % 4 == 0:
            network.restart(choice // 4 % 3)
        elif what == 8 and not deaths and choice % 2 == 0:
            network.reset(choice // 2 % 3)
        else:
            events[choice % len(events)]()
        check_limits(network)
    network.drain()
    check_limits(network)
    check_sums(network)
    # What is refunded and undone is free again, and nothing else is: the limits still hold.
    for number in tape[:40]:
        network.ask(number % 2, entry(number // 2))
        network.drain()
        check_limits(network)
    check_sums(network)


def settle_one(network: Network, choice: int) -> None:
    choice, tokens = divmod(choice, 4)
    admitted = [
        exchange
        for exchange in network.exchanges
        if exchange.finished is not None and exchange.decision.reservation
    ]
    if admitted:
        usage = Usage(total=tokens).to_wire() if tokens < 3 else None
        network.settle(admitted[choice // 2 % len(admitted)], choice % 2, usage)


# --- what must hold


Counter = tuple[int, int, Key]


def outcome(exchange: Exchange) -> tuple[int | None, dict[int, int]]:
    """Return where the request was refused and where its shadow policies stopped, in plain order.

    Only what was known in time counts; a silent owner refuses if its rule says so.
    """
    evaluation = exchange.evaluation
    stops: dict[int, int] = {}
    for index, check in enumerate(evaluation.checks):
        if check.segment in stops:
            continue
        shard, place = evaluation.places[index]
        verdict = exchange.known[shard][place] if shard in exchange.known else None
        if shard < 0:
            refused = True
        elif verdict is None:
            refused = check.rule is not None and check.on_error == "reject"
        else:
            refused = head(verdict) < 0
        if refused and not check.shadow:
            return index, stops
        if refused:
            stops[check.segment] = index
    return None, stops


def head(verdict: Verdict) -> int:
    return (verdict if isinstance(verdict, int) else verdict[0]) or 0


def kept_by_shard(network: Network, exchange: Exchange, shard: int) -> set[int]:
    """Return the operations that a shard charged and did not put back itself: all or none."""
    part = exchange.evaluation.parts[shard]
    table = network.engines[0].table
    first = len(part) % 3
    replies = exchange.evaluation.replies[shard]
    refusing = set()
    for place, verdict in enumerate(replies):
        spec = table[part[first + place * 3]]  # type: ignore[call-overload]
        if verdict is not None and head(verdict) < 0:
            if not spec.shadow:
                return set()
            refusing.add(spec.segment)
    return {
        index
        for index, (owner, place) in enumerate(exchange.evaluation.places)
        if owner == shard
        and replies[place] is not None
        and head(replies[place]) >= 0
        and exchange.evaluation.checks[index].segment not in refusing
    }


def sums(network: Network) -> tuple[dict[Counter, int], dict[Counter, int], dict[Counter, Check]]:
    """Return charges, loop counts and checks by counter, of the present lives of the shards."""
    charged: dict[Counter, int] = defaultdict(int)
    counted: dict[Counter, int] = defaultdict(int)
    checks: dict[Counter, Check] = {}
    for exchange in network.exchanges:
        if exchange.finished is None:
            continue
        evaluation = exchange.evaluation
        refused_at, stops = outcome(exchange)
        assert (refused_at is not None) == (exchange.decision.action == "reject")
        for shard in evaluation.replies:
            if exchange.lives[shard] != network.lives[shard]:
                continue
            kept = kept_by_shard(network, exchange, shard)
            settled = {
                entry[0]: entry[-1] for entry in network.settled.get((exchange.number, shard), ())
            }
            for index, check in enumerate(evaluation.checks):
                owner, place = evaluation.places[index]
                if owner != shard or cleared(network, exchange, shard, check):
                    continue
                counter = shard, check.number, evaluation.keys[index]
                checks[counter] = check
                stop = stops.get(check.segment)
                if check.kind == "loop" or opened(evaluation.replies[shard][place]):
                    reached = (refused_at is None or index <= refused_at) and (
                        stop is None or index <= stop
                    )
                    said = evaluation.replies[shard][place] is not None
                    counted[counter] += reached and said
                elif check.number in settled:
                    charged[counter] += settled[check.number]
                elif refused_at is None and stop is None and index in kept:
                    cost = evaluation.costs[index]
                    assert isinstance(cost, int)
                    charged[counter] += cost
    return charged, counted, checks


def cleared(network: Network, exchange: Exchange, shard: int, check: Check) -> bool:
    """Return whether a reset by hand came after what a breaker counted."""
    return check.kind == "breaker" and exchange.resets[shard] < network.resets[shard]


def opened(verdict: Verdict | None) -> bool:
    return (
        isinstance(verdict, list)
        and len(verdict) == 3
        and verdict[1:2] == [1]
        and verdict[0] == -60
    )


def limit_of(check: Check) -> int | None:
    assert check.rule is None or check.kind != "breaker"
    match check.kind:
        case "token_bucket":
            return 4 * MICRO
        case "sliding_window":
            return 6 * MICRO
        case "cost_based":
            assert check.rule is not None
            return check.rule.algorithm.budget  # type: ignore[union-attr]
        case "token_bucket_llm":
            assert check.rule is not None
            day = check.rule.algorithm.tokens_per_day  # type: ignore[union-attr]
            return 50 if day is None else 40
        case "breaker":
            return 30 * MICRO
    return None


def check_limits(network: Network) -> None:
    """What was admitted is within every limit, at this very moment."""
    charged, _, checks = sums(network)
    for counter, total in charged.items():
        limit = limit_of(checks[counter])
        assert limit is None or total <= limit, (counter, total)


def check_sums(network: Network) -> None:
    """Every counter holds what the admitted requests were charged, and nothing else."""
    charged, counted, _ = sums(network)
    found = set()
    for shard, service in enumerate(network.services):
        for number, table in enumerate(service._generations[1]):
            for key, state in table.states.items():
                counter = shard, number, key
                found.add(counter)
                if state is not None:
                    check_state(table, state, charged.get(counter, 0), counted.get(counter, 0))
                else:
                    assert not charged.get(counter)
    assert {counter for counter, total in charged.items() if total} <= found
    check_reservations(network)


def check_state(table: CounterTable, state: Any, total: int, times: int) -> None:  # noqa: ANN401 - any state
    """`times` is how often a loop was counted, and for a breaker how often it was opened."""
    limiter: Any = table.limiter
    match table.kind:
        case "token_bucket":
            assert spent(limiter.full - state[0], limiter.scale) == total
        case "sliding_window":
            assert state[1:] == (0, total)
        case "cost_based":
            assert state[2] == total
        case "token_bucket_llm":
            assert spent(limiter.full - state[0], limiter.token) == total
            assert limiter.per_day is None or state[2] == total
        case "loop":
            assert len(state) == times
        case "breaker":
            assert state[1:3] == (0, total)
            assert (state[3] >= 0) == bool(times)


def spent(missing: int, unit: int) -> int:
    """Return what is missing in whole units; the little that has trickled in is rounded away."""
    return -(-missing // unit)


def check_reservations(network: Network) -> None:
    """A shard remembers what admitted requests reserved and have not settled."""
    for shard, service in enumerate(network.services):
        wanted = set()
        for exchange in network.exchanges:
            evaluation = exchange.evaluation
            if exchange.lives.get(shard) != network.lives[shard]:
                continue
            refused_at, stops = outcome(exchange)
            holds = any(
                evaluation.checks[index].reserves and evaluation.checks[index].segment not in stops
                for index in kept_by_shard(network, exchange, shard)
            )
            if refused_at is None and holds and (exchange.number, shard) not in network.settled:
                wanted.add(evaluation.reservation)
        assert set(service.reservations._held) == wanted


@pytest.mark.parametrize(
    ("timeouts", "deaths"),
    [(False, False), (True, False), (True, True)],
    ids=["all answer", "some too late", "shards die"],
)
@profile(examples=300)
@given(world=worlds, tape=tapes)
def test_any_order(
    world: tuple[Json, tuple[int, int]], tape: list[int], *, timeouts: bool, deaths: bool
) -> None:
    document, skews = world
    network = Network(compiled(document), skews, 3, NOW)
    play(network, tape, timeouts=timeouts, deaths=deaths)
