"""After a shard's death both sides agree: a frame was applied once or never (§13.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.front.in_flight import InFlight

Flight = InFlight[str]


def flight() -> Flight:
    """Return a link with a question, an undo, a question and an undo under way."""
    found: Flight = InFlight()
    found.ask(["a"], 1.0)
    found.undo(1, [["u"]], 1.0, 0.0)
    found.ask(["b", "c"], 1.0)
    found.undo(2, [["v"]], 1.0, 0.0)
    return found


def left(found: Flight) -> list[str]:
    return [owner for frame in found for owner in frame.owners]


def test_replies_come_in_order_and_take_undos_with_them() -> None:
    found = flight()
    frame = found.next()
    assert frame is not None
    assert frame.owners == ["a"]
    found.replied()
    assert (found.received, found.waiting, left(found)) == (1, 2, ["b", "c"])
    found.replied()
    assert (found.received, found.waiting, found.next()) == (2, 0, None)


@pytest.mark.parametrize(
    ("applied", "first", "again", "expected", "lost"),
    [
        (0, 0, {1: [["u"]], 2: [["v"]]}, [], {}),
        (1, 0, {1: [["u"]], 2: [["v"]]}, ["a"], {}),
        (2, 0, {2: [["v"]]}, ["a"], {}),
        (3, 0, {2: [["v"]]}, ["a", "b", "c"], {}),
        (4, 0, {}, ["a", "b", "c"], {}),
        (4, 1, {}, ["b", "c"], {"decision": 1}),  # a reply that nobody has any more
        (-1, 0, {}, [], {"decision": 3, "undo": 2}),
    ],
)
def test_what_was_not_applied_is_undone_again_and_never_asked_again(
    applied: int, first: int, again: object, expected: list[str], lost: dict[str, int]
) -> None:
    found = flight()
    assert found.broke(0.0) == ["a", "b", "c"]
    assert found.broke(0.0) == []  # told once
    assert found.resume(applied, first) == again
    assert left(found) == expected
    assert all(frame.expired for frame in found)
    assert found.waiting == len(expected)
    assert +found.losses == lost
    assert found.sent == max(applied, 0)


def test_old_undos_have_been_read() -> None:
    found = flight()
    found.replied()
    found.undo(3, [["w"]], 9.0, 5.0)  # the first undo is older than that
    assert found.broke(5.0) == ["b", "c"]
    assert found.resume(0, 0) == {2: [["v"]], 3: [["w"]]}


@given(st.lists(st.booleans(), max_size=20), st.data())
def test_counts_agree_with_a_shard_that_applied_a_prefix(
    frames: list[bool], data: st.DataObject
) -> None:
    """The shard counts frames and replies; the front must come to the same numbers."""
    found: Flight = InFlight()
    applied = data.draw(st.integers(0, len(frames)))
    for number, asks in enumerate(frames):
        if asks:
            found.ask([str(number)], 0.0)
        else:
            found.undo(1, [[number]], 0.0, -1.0)
    replied = sum(frames[:applied])
    heard = data.draw(st.integers(0, replied))
    for _ in range(heard):
        found.replied()
    found.broke(-1.0)
    again = found.resume(applied, heard)
    owed = [str(number) for number, asks in enumerate(frames[:applied]) if asks][heard:]
    assert left(found) == owed
    assert [undo for undos in again.values() for undo in undos] == [
        [number] for number, asks in enumerate(frames) if not asks and number >= applied
    ]
    assert (found.sent, found.received + len(owed)) == (applied, replied)
    assert +found.losses == {}
