"""Scrapes of a front: one question at a time, no answer older than its question, a bound."""

from daemon.front.scrapes import MAX_SCRAPES, Scrapes


def test_who_comes_during_a_question_shares_the_next() -> None:
    asked: list[int] = []
    told: list[tuple[str, bytes]] = []
    scrapes = Scrapes(asked.append)
    assert scrapes.take(lambda text: told.append(("first", text)))
    assert scrapes.take(lambda text: told.append(("second", text)))
    assert scrapes.take(lambda text: told.append(("third", text)))
    assert asked == [1]
    scrapes.answered(1, b"1")
    assert (told, asked) == ([("first", b"1")], [1, 2])
    scrapes.answered(1, b"again")
    scrapes.answered(2, b"2")
    assert told[1:] == [("second", b"2"), ("third", b"2")]
    scrapes.answered(2, b"again")
    assert (len(told), asked) == (3, [1, 2])


def test_so_many_may_wait_and_no_more() -> None:
    scrapes = Scrapes(lambda _: None)
    taken = [scrapes.take(lambda _: None) for _ in range(MAX_SCRAPES + 2)]
    assert taken == [True] * MAX_SCRAPES + [False] * 2
    scrapes.answered(1, b"")
    assert [scrapes.take(lambda _: None) for _ in range(2)] == [True, False]
