from daemon.front.random_ids import ID_BYTES, RandomIds


def test_ids_are_whole_and_none_comes_twice() -> None:
    first, second = RandomIds(), RandomIds()
    drawn = [source.draw() for _ in range(1000) for source in (first, second)]
    assert {len(each) for each in drawn} == {ID_BYTES}
    assert len(set(drawn)) == len(drawn)
