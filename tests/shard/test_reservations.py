from shard.reservations import Held, Reservations


def held(*entries: int, ttl: int = 100, limit: int = 10) -> Reservations[int]:
    reservations: Reservations[int] = Reservations(ttl, limit)
    reservations.hold(b"a", entries, 1000)
    return reservations


def test_a_reservation_is_taken_once() -> None:
    reservations = held(1, 2)
    taken = reservations.take(b"a", 1050)
    assert taken is not None
    assert (taken.entries, taken.charged_at) == ((1, 2), 1000)
    assert reservations.take(b"a", 1050) is None
    assert reservations.take(b"b", 1050) is None


def test_it_lives_its_time_to_the_microsecond() -> None:
    assert held(1).take(b"a", 1099) is not None
    late = held(1)
    assert late.take(b"a", 1100) is None
    assert (len(late), late.forgotten) == (0, 1)


def test_entries_are_dropped_one_by_one() -> None:
    reservations = held(1, 2)
    assert not reservations.drop(b"a", lambda entry: entry == 3)
    assert not reservations.drop(b"b", lambda _: True)
    assert reservations.drop(b"a", lambda entry: entry == 1)
    assert not reservations.drop(b"a", lambda entry: entry == 1)
    assert len(reservations) == 1
    assert reservations.drop(b"a", lambda entry: entry == 2)
    assert len(reservations) == 0


def test_the_oldest_makes_room() -> None:
    reservations = held(1, limit=2)
    reservations.hold(b"b", (2,), 1001)
    reservations.hold(b"c", (3,), 1002)
    assert (len(reservations), reservations.dropped, reservations.forgotten) == (2, 1, 0)
    assert reservations.take(b"a", 1003) is None
    assert reservations.take(b"c", 1003) is not None


def test_expiry_looks_at_a_bounded_number() -> None:
    reservations = held(1, limit=100)
    for number in range(9):
        reservations.hold(b"%d" % number, (number,), 1001)
    assert reservations.expire(1099, 10) == 0
    assert reservations.expire(1100, 10) == 1
    assert reservations.expire(5000, 4) == 4
    assert reservations.expire(5000, 100) == 5
    assert (len(reservations), reservations.forgotten) == (0, 10)


def test_a_limit_that_was_lowered_is_come_down_to_step_by_step() -> None:
    reservations: Reservations[int] = Reservations(10, limit=3)
    for number in range(10):
        reservations.put(b"old%d" % number, Held((number,), 0))
    sizes = []
    for number in range(10):
        reservations.hold(b"new%d" % number, (number,), 1)
        sizes.append(len(reservations))
    assert sizes == [9, 8, 7, 6, 5, 4, 3, 3, 3, 3]
    assert reservations.dropped == 17
