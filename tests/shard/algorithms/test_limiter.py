"""What every limiter promises, whichever its kind."""

from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.operations import Kind, RuleSpec, Verdict
from shard.algorithms.limiter import Param, Params, granted, integer
from shard.algorithms.registry import BUILDERS, AnyLimiter, build, from_wire

S = 1_000_000
MINUTE = 60 * S
DAY = 86_400 * S
T0 = 1_700_000_000 * S

PARAMS: dict[Kind, Params] = {
    "token_bucket": {"rate_num": 7, "rate_den": 3, "burst": 20 * S},
    "sliding_window": {"limit": 20 * S, "window_seconds": 10},
    "cost_based": {"budget": 20 * S, "period": "1h", "timezone": "UTC"},
    "token_bucket_llm": {"tpm": 700 * S, "burst": 900 * S, "tpd": 2000 * S},
    "loop": {"window_seconds": 10, "threshold": 5, "reject": True},
    "breaker": {"threshold": 20 * S, "auto_reset": 45 * S},
    "refuse": {},
}
LONGEST_BLOCK: dict[Kind, int] = {
    "token_bucket": 9 * S,  # 20 tokens at 7/3 a second
    "sliding_window": 20 * S,
    "cost_based": 3600 * S,
    "token_bucket_llm": DAY,
    "loop": 10 * S,
    "breaker": 2 * MINUTE + 45 * S,
}
"""From whatever a stepping clock left behind to the first unit granted."""

KINDS = [kind for kind in PARAMS if kind != "refuse"]


def spec(kind: Kind) -> RuleSpec:
    return RuleSpec(kind, f"id of {kind}", 4, kind == "loop", dict(PARAMS[kind]))


def cost_of(kind: Kind, share: int) -> int:
    """Turn 0..100 into a cost, 100 being a little above most limits."""
    if kind == "loop":
        return 0
    return share * 10 if kind == "token_bucket_llm" else share * S // 4


kinds = st.sampled_from(KINDS)
forward = st.lists(st.tuples(st.integers(0, 90 * S), st.integers(0, 100)), max_size=25)
jumping = st.lists(
    st.tuples(st.integers(-3 * DAY, 2 * DAY) | st.integers(0, 5 * S), st.integers(0, 100)),
    max_size=25,
)


def play(limiter: AnyLimiter, kind: Kind, steps: list[tuple[int, int]]) -> tuple[Any, int]:
    state, now = None, T0
    for wait, share in steps:
        now += wait
        state, _ = limiter.charge(state, cost_of(kind, share), now)
    return state, now


def probes(limiter: AnyLimiter, kind: Kind, state: Any, now: int) -> list[Verdict]:  # noqa: ANN401 - only the limiter can read it
    return [
        limiter.charge(deepcopy(state), cost_of(kind, share), now + wait)[1]
        for wait in (0, 1, S, 7 * S, MINUTE, 3600 * S, DAY)
        for share in (0, 1, 20, 60, 100)
    ]


@given(kinds, forward, st.integers(0, DAY), st.integers(0, 100))
def test_idle_is_as_good_as_gone(
    kind: Kind, steps: list[tuple[int, int]], extra: int, share: int
) -> None:
    limiter = build(spec(kind))
    state, now = play(limiter, kind, steps)
    if state is None:
        return
    at = limiter.idle_at(state)
    assert at is not None
    later = max(now, at) + extra
    cost = cost_of(kind, share)
    kept, verdict = limiter.charge(state, cost, later)
    fresh, expected = limiter.charge(None, cost, later)
    assert verdict == expected
    if granted(verdict):
        assert kept == fresh


@given(kinds, forward, st.integers(0, 5 * S), st.integers(0, 100))
def test_retract_leaves_no_trace(
    kind: Kind, steps: list[tuple[int, int]], wait: int, share: int
) -> None:
    limiter = build(spec(kind))
    state, now = play(limiter, kind, steps)
    now += wait
    cost = cost_of(kind, share)
    before = probes(limiter, kind, state, now)
    after, verdict = limiter.charge(state, cost, now)
    back = limiter.retract(after, cost, now, now, verdict)
    assert probes(limiter, kind, back, now) == before


@given(kinds, forward, st.integers(0, 5 * S), st.integers(0, 100))
def test_undo_restores_all_but_attempts(
    kind: Kind, steps: list[tuple[int, int]], wait: int, share: int
) -> None:
    limiter = build(spec(kind))
    state, now = play(limiter, kind, steps)
    now += wait
    cost = cost_of(kind, share)
    before = probes(limiter, kind, state, now)
    after, verdict = limiter.charge(state, cost, now)
    if granted(verdict) and kind != "loop":
        assert probes(limiter, kind, limiter.undo(after, cost, now, now), now) == before


@given(kinds, jumping, st.integers(0, DAY), st.integers(0, DAY), st.integers(0, 100))
def test_a_jumping_clock_breaks_nothing(
    kind: Kind, steps: list[tuple[int, int]], ago: int, wait: int, share: int
) -> None:
    limiter = build(spec(kind))
    state, now = play(limiter, kind, steps)
    cost = cost_of(kind, share)
    for changed in (
        limiter.undo(deepcopy(state), cost, now - ago, now + wait),
        limiter.retract(deepcopy(state), cost, now - ago, now + wait, 0),
        limiter.settle(deepcopy(state), cost, cost // 2, now - ago, now + wait),
    ):
        assert (changed is None) == (state is None)
        if changed is not None:
            assert all(part >= 0 for part in changed if part != -1)
    # the clock stays; the next attempt brings the state up to it, refused or not
    small = min(cost_of(kind, 1), 1)
    state, _ = limiter.charge(state, cost_of(kind, 100), now)
    _, verdict = limiter.charge(state, small, now + LONGEST_BLOCK[kind])
    assert granted(verdict)


@given(kinds, forward, st.integers(0, 100))
def test_a_refusal_keeps_the_very_state(
    kind: Kind, steps: list[tuple[int, int]], share: int
) -> None:
    limiter = build(spec(kind))
    state, now = play(limiter, kind, steps)
    kept, verdict = limiter.charge(state, cost_of(kind, share), now)
    opened = kind == "breaker" and not isinstance(verdict, int) and verdict[1] == 1
    if not granted(verdict) and kind != "loop" and not opened:
        assert kept is state


@given(kinds, forward, st.integers(0, 100))
def test_only_reservations_are_settled(
    kind: Kind, steps: list[tuple[int, int]], share: int
) -> None:
    limiter = build(spec(kind))
    state, now = play(limiter, kind, steps)
    settled = limiter.settle(state, cost_of(kind, share), 0, now, now)
    if kind not in {"cost_based", "token_bucket_llm"}:
        assert settled is state


def test_refuse_always_refuses_and_keeps_nothing() -> None:
    limiter = build(spec("refuse"))
    assert limiter.charge(None, 0, T0) == (None, -1)
    assert limiter.undo(None, 0, T0, T0) is None
    assert limiter.retract(None, 0, T0, T0, -1) is None
    assert limiter.settle(None, 0, 0, T0, T0) is None
    assert limiter.idle_at(None) == 0


@pytest.mark.parametrize("kind", BUILDERS)
def test_rules_survive_the_wire(kind: Kind) -> None:
    rule = spec(kind)
    assert from_wire(msgspec.msgpack.decode(msgspec.msgpack.encode(rule.to_wire()))) == rule


@pytest.mark.parametrize(
    "item",
    [
        ["leaky_bucket", "id", 0, False, {}],
        ["refuse", "id", 0, False],
        ["refuse", "id", "0", False, {}],
        ["refuse", "id", 0, False, {"limit": 1.5}],
        {"kind": "refuse"},
    ],
)
def test_what_is_no_rule_is_refused(item: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        from_wire(item)


@pytest.mark.parametrize("value", [None, True, "5"])
def test_a_whole_number_must_be_one(value: Param) -> None:
    with pytest.raises(TypeError, match="'limit' must be an integer"):
        integer({"limit": value}, "limit")
    with pytest.raises(TypeError, match="'burst'"):
        integer({}, "burst")


@pytest.mark.parametrize(
    ("verdict", "expected"), [(0, True), (-1, False), ([3, None], True), ([-3, 0], False)]
)
def test_the_sign_tells(verdict: Verdict, *, expected: bool) -> None:
    assert granted(verdict) is expected
