"""A front that died: what it noted stands, what it did not is given back, exactly."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.answered import LAST_SLOT, PAGE_BYTES
from protocol.frames import DECIDE, SETTLE
from protocol.operations import RuleSpec
from protocol.usage import Usage
from shard.service import ShardService
from shard.unanswered import REMEMBERED, Unanswered

S = 1_000_000
T0 = 1_700_000_000 * S
RID = b"r" * 16
_DAY: dict[str, Any] = {"budget": 9 * S, "period": "1d", "timezone": "UTC", "settle": ""}
RULES: list[tuple[Any, dict[str, Any], int, bool]] = [
    ("cost_based", _DAY, 0, False),
    ("sliding_window", {"limit": 6 * S, "window_seconds": 60}, 0, False),
    ("cost_based", _DAY, 1, True),
    ("cost_based", _DAY | {"budget": 3 * S}, 1, True),
    ("loop", {"window_seconds": 60, "threshold": 90, "reject": True}, 2, False),
    ("cost_based", _DAY | {"settle": "tokens"}, 2, False),
    ("token_bucket_llm", {"tpm": 60 * S, "burst": 60 * S, "tpd": 99 * S}, 2, False),
]


class Link:
    """A shard with one front's link, and the page that the front would write."""

    def __init__(self) -> None:
        self.service = ShardService(1 << 20, 3600 * S)
        specs = [
            RuleSpec(kind, str(number), segment, shadow, params)
            for number, (kind, params, segment, shadow) in enumerate(RULES)
        ]
        self.service.install(1, specs)
        self.page = os.memfd_create("page")
        os.ftruncate(self.page, PAGE_BYTES)
        lifeline, self._held = os.pipe()
        self.unanswered = Unanswered(os.dup(self.page), lifeline, 0)
        self.asked = 0

    def decide(self, *items: list[object]) -> list[Any]:
        frame: list[Any] = [DECIDE, 1, T0, list(items)]
        reply: Any = self.service.answer(frame)
        self.unanswered.applied(frame, reply)
        self.asked += len(items)
        return list(reply[1])

    def answer(self, number: int) -> None:
        os.pwrite(self.page, number.to_bytes(8, "little"), 8 * (number & LAST_SLOT))

    def die(self) -> int:
        return self.unanswered.give_back(self.service)

    def states(self) -> dict[tuple[int, object], object]:
        """The counters that hold something, loops apart, which count attempts."""
        found = {}
        for table in self.service.tables:
            for key, state in table.states.items():
                if table.kind != "loop":
                    found[table.number, key] = table.charge(state, 0, T0)[1]
        fresh = {
            table.number: table.charge(None, 0, T0)[1]
            for table in self.service.tables
            if table.kind != "loop"
        }
        return {place: left for place, left in found.items() if left != fresh[place[0]]}

    def close(self) -> None:
        self.unanswered.close()
        os.close(self.page)
        os.close(self._held)


@pytest.fixture(name="link")
def _link() -> Iterator[Link]:
    link = Link()
    yield link
    link.close()


def test_what_was_not_answered_is_given_back(link: Link) -> None:
    link.decide([0, "a", S], [0, "a", S], [0, "b", S])
    link.decide([0, "a", S])
    link.answer(1)
    link.answer(3)
    assert link.die() == 2
    assert link.states() == {(0, "a"): 8 * S, (0, "b"): 8 * S}
    assert link.die() == 0


def test_a_reservation_goes_with_its_charge(link: Link) -> None:
    link.decide([RID, 5, "a", 2 * S, 6, "a", 4])
    assert link.service.figures(T0)["reservations"] == 1
    assert link.die() == 1
    assert link.service.figures(T0)["reservations"] == 0
    assert link.states() == {}


def test_what_was_settled_meanwhile_keeps_what_was_used(link: Link) -> None:
    link.decide([RID, 5, "a", 2 * S])
    link.service.answer([SETTLE, T0, [[RID, Usage(total=1).to_wire()]]])
    link.die()
    assert link.states() == {(5, "a"): 8 * S}


def test_only_so_much_is_remembered(link: Link) -> None:
    for _ in range(REMEMBERED + 5):
        link.decide([0, "a", 1])
    assert link.die() == REMEMBERED
    assert link.states() == {(0, "a"): 9 * S - 5}


def test_a_page_that_is_none_means_that_all_stands(link: Link) -> None:
    link.decide([0, "a", S])
    os.ftruncate(link.page, 100)
    assert link.die() == 0
    assert link.states() == {(0, "a"): 8 * S}


operations = st.lists(
    st.tuples(st.integers(0, len(RULES) - 1), st.sampled_from("ab"), st.integers(1, 4)),
    min_size=1,
    max_size=5,
    unique_by=lambda each: each[0],
)


@given(st.lists(st.tuples(operations, st.booleans()), max_size=12))
def test_the_counters_are_as_if_only_the_answered_had_come(
    requests: list[tuple[list[tuple[int, str, int]], bool]],
) -> None:
    """One after the other, each answered before the next is asked, except the unanswered ones.

    Without refusals: a request that was refused because of an unanswered one stays refused.
    """
    left, right = Link(), Link()
    try:
        for chosen, answered in requests:
            item: list[object] = []
            for number, key, cost in sorted(chosen):
                item += (number, key, cost * S // 100)
            left.decide(item)
            if answered:
                left.answer(left.asked)
                right.decide(item)
        left.die()
        assert left.states() == right.states()
    finally:
        left.close()
        right.close()
