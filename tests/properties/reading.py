"""Counters as both sides hold them, brought to one form: what a request of this moment would find.

None stands for a counter that nobody could tell from a new one.
"""

from collections import Counter
from fractions import Fraction
from math import floor
from typing import Any

from protocol.placement import encode_key
from shard.algorithms.breaker import BreakerLimiter
from shard.algorithms.cost_based import BudgetLimiter
from shard.algorithms.loop import LoopLimiter
from shard.algorithms.sliding_window import SlidingWindowLimiter
from shard.algorithms.token_bucket import TokenBucketLimiter
from shard.algorithms.token_bucket_llm import LlmLimiter
from tests.properties.reference import (
    DAY,
    Breaker,
    Bucket,
    Hits,
    Json,
    Ledger,
    Reference,
    Spent,
    Tokens,
    dec,
    period_of,
    rules_of,
)

MICRO = 1_000_000
Value = Any


def effective(kind: str, limiter: Any, state: Any, now: int) -> Value:  # noqa: ANN401, PLR0911
    """Return a shard's counter at `now` (microseconds), amounts in micro-units."""
    if state is None:
        return None
    match limiter:
        case TokenBucketLimiter():
            level = min(state[0] + (now - state[1]) * limiter.gain, limiter.full)
            return None if level == limiter.full else Fraction(level, limiter.scale)
        case SlidingWindowLimiter():
            return totals(*state[:3], now, limiter.length)
        case BudgetLimiter():
            return state[2] if state[1] > now and state[2] else None
        case LlmLimiter():
            level = min(state[0] + (now - state[1]) * limiter.gain, limiter.full)
            same_day = limiter.per_day is not None and now // (DAY * MICRO) == state[1] // (
                DAY * MICRO
            )
            used = state[2] if same_day else 0
            scale = limiter.token // MICRO
            return (Fraction(level, scale), used) if level < limiter.full or used else None
        case LoopLimiter():
            return tuple(hit for hit in state if now - hit < limiter.length) or None
        case BreakerLimiter():
            opened = state[3] if state[3] >= 0 else None
            if opened is not None and limiter.auto_reset and now - opened >= limiter.auto_reset:
                opened = None
            spent = totals(*state[:3], now, 60 * MICRO)
            return None if opened is None and spent is None else (spent, opened)
    raise AssertionError(kind)


def totals(start: int, previous: int, current: int, now: int, length: int) -> Value:
    at = now - now % length
    if at == start + length:
        previous, current = current, 0
    elif at > start:
        previous, current = 0, 0
    return (previous, current) if previous or current else None


def expected(  # noqa: C901 - one look at everything there is
    reference: Reference, now: int
) -> dict[tuple[object, ...], Value]:
    """Return the reference's counters in the same form."""
    found: dict[tuple[object, ...], Value] = {}
    at = Fraction(now, MICRO)
    current = reference.known(reference.bundle)
    for policy in reference.bundle["policies"]:
        for mode in ("enforce", "shadow"):
            for rule in rules_of(policy):
                name = reference.name_of(mode, policy, rule)
                if name not in current:
                    continue
                for values, counter in reference.counters.get(name, {}).items():
                    value = of_rule(counter, rule["algorithm_config"], at)
                    if value is not None:
                        label = rule.get("name", "fallback_limit")
                        found[mode, policy["id"], label, encode_key(values)] = value
    for name, counters in reference.counters.items():
        if name not in current or name[2] not in {"loop", "breaker"}:
            continue
        policy = next(each for each in reference.bundle["policies"] if each["id"] == name[1])
        if name[2] == "loop":
            window = policy["spec"]["loop_detection"]["window_seconds"]
            hits = [of_hits(counter, window, at) for counter in counters.values()]
            some = Counter(each for each in hits if each)
            if some:
                found[name[:3]] = some
            continue
        for values, counter in counters.items():
            value = of_breaker(counter, policy["spec"]["circuit_breaker"], at)
            if value is not None:
                found[*name[:3], encode_key(values)] = value
    return found


def refill(reference: Reference, now: int) -> None:
    """Bring every bucket to the present, and drop those that nobody could tell from a new one."""
    at = Fraction(now, MICRO)
    for name, counters in reference.counters.items():
        config = reference.newest[name]["algorithm_config"] if name[2] == "rule" else {}
        for values, counter in list(counters.items()):
            match counter:
                case Bucket():
                    counter.refill(dec(config["tokens_per_second"]), dec(config["burst"]), at)
                case Tokens():
                    tpm = dec(config["tokens_per_minute"])
                    counter.minute.refill(tpm / 60, dec(config.get("burst_tokens", tpm)), at)
                case _:
                    continue
            if of_rule(counter, config, at) is None:
                del counters[values]


def of_rule(counter: object, config: Json, now: Fraction) -> Value:
    match counter:
        case Bucket():
            burst, rate = dec(config["burst"]), dec(config["tokens_per_second"])
            level = min(counter.level + (now - counter.last) * rate, burst)
            return None if level == burst else level * MICRO
        case Ledger():
            return of_ledger(counter, config["window_seconds"], now)
        case Spent():
            usage = counter.periods.get(period_of(config["period"], now)[0], 0)
            return usage * MICRO or None
        case Tokens():
            tpm = dec(config["tokens_per_minute"])
            burst = dec(config.get("burst_tokens", config["tokens_per_minute"]))
            minute = counter.minute
            level = min(minute.level + (now - minute.last) * tpm / 60, burst)
            used = counter.days.get(floor(now / DAY), 0) if "tokens_per_day" in config else 0
            return (level * MICRO, used) if level < burst or used else None
    raise AssertionError(counter)


def of_ledger(ledger: Ledger, window: int, now: Fraction) -> Value:
    start = Fraction(floor(now / window) * window)
    past, current = ledger.total(start - window, start), ledger.total(start, start + window)
    return (past * MICRO, current * MICRO) if past or current else None


def of_hits(hits: Hits, window: int, now: Fraction) -> Value:
    return tuple(int(time * MICRO) for time in hits.times if now - time < window)


def of_breaker(breaker: Breaker, config: Json, now: Fraction) -> Value:
    reset = dec(config.get("auto_reset_after_minutes", 0)) * 60
    opened = None if breaker.opened is None else int(breaker.opened * MICRO)
    if breaker.opened is not None and reset and now - breaker.opened >= reset:
        opened = None
    spent = of_ledger(breaker, 60, now)
    return None if opened is None and spent is None else (spent, opened)
