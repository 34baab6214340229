"""What stored counters say, for people: values and ages instead of limiters' states."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from protocol.counter_names import CounterName
from protocol.operations import Key, Kind
from protocol.placement import decode_key
from shard.algorithms.limiter import MICRO
from shard.algorithms.registry import AnyLimiter
from shard.stores.database import named
from shard.stores.image import State, StoredRule
from shard.stores.view import EVERYTHING, View

Value = dict[str, float | bool | None]


@dataclass(frozen=True, slots=True)
class Counter:
    """One stored counter. `values` are those of its limit keys, None if only a digest is stored.

    Times in microseconds since the epoch; `expires_us` None means never by itself.
    """

    identity: str
    name: CounterName
    kind: Kind
    key: Key
    values: list[str] | None
    state: State
    value: Value
    updated_us: int
    expires_us: int | None


def counters(view: View, now: int) -> Iterator[Counter]:
    """Return every stored counter that counts at `now` (microseconds since the epoch).

    Raises:
        ValueError, TypeError, KeyError: something holds what no limiter has written.
        sqlite3.Error: the database cannot be read.
    """
    for identity, rule in sorted(view.rules().items()):
        name = named(identity)
        limiter = rule.limiter(identity)
        for row in view.counters(identity, rule, EVERYTHING, now):
            values = decode_key(row.key, len(name.limit_keys)) if name.limit_keys else None
            if values is None and isinstance(row.key, str):
                values = [row.key]
            yield Counter(
                identity,
                name,
                rule.kind,
                row.key,
                values,
                row.state,
                value_of(rule, limiter, row.state, now),
                row.updated_us,
                row.expires_us,
            )


def value_of(rule: StoredRule, limiter: AnyLimiter, state: State, now: int) -> Value:
    """Return what a counter amounts to at `now`, in the units of the bundle."""
    params: dict[str, Any] = dict(rule.params)
    if rule.kind == "loop":
        past = now - params["window_seconds"] * MICRO
        return {"hits": sum(hit > past for hit in state)}
    if rule.kind == "breaker":
        _, verdict = limiter.charge(state, 0, now)
        rate = verdict if isinstance(verdict, int) else verdict[2]
        return {"open": not isinstance(verdict, int), "per_minute": _units(rate)}
    _, verdict = limiter.charge(state, 0, now)
    left = verdict if isinstance(verdict, int) else verdict[0]
    if rule.kind == "token_bucket_llm":
        day = None if params.get("tpd") is None else params["tpd"] // MICRO
        today = state[2] if day is not None and state[1] // _DAY_US == now // _DAY_US else 0
        return {
            "minute_left": max(0, left or 0),
            "day_left": None if day is None else max(0, day - today),
        }
    if rule.kind == "cost_based":
        return {"used": _units(state[2]), "limit": _units(params["budget"])}
    limit = params["burst"] if rule.kind == "token_bucket" else params["limit"]
    return {"left": max(0, left or 0), "limit": _units(limit)}


def _units(micro: int | None) -> float:
    whole, rest = divmod(micro or 0, MICRO)
    return whole if not rest else (micro or 0) / MICRO


_DAY_US = 86_400 * MICRO
