import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.engine.bounded_cache import BoundedCache


def test_what_is_in_use_outlives_a_flood() -> None:
    cache = BoundedCache[str, int](limit=10)
    cache.put("kept", 1)
    for number in range(1000):
        cache.put(f"flood {number}", number)
        if number % 5 == 0:
            assert cache.get("kept") == 1
    assert cache.get("kept") == 1
    assert cache.get("flood 0") is None


def test_weight_is_bounded_as_well() -> None:
    cache = BoundedCache[int, str](limit=1000, weight_limit=100)
    for number in range(100):
        cache.put(number, "x", weight=30)
    assert len(cache) <= 6


def test_a_value_is_replaced() -> None:
    cache = BoundedCache[str, int](limit=2)
    for value in range(5):
        cache.put("a", value)
    assert (cache.get("a"), len(cache)) == (4, 1)


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        BoundedCache[str, int](limit=0)


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.booleans(), st.integers(0, 12), st.integers(0, 50)), max_size=200),
)
def test_it_is_a_dictionary_that_may_forget(limit: int, steps: list[tuple[bool, int, int]]) -> None:
    cache = BoundedCache[int, int](limit)
    truth: dict[int, int] = {}
    for write, key, value in steps:
        if write:
            cache.put(key, value)
            truth[key] = value
            assert cache.get(key) == value
        else:
            assert cache.get(key) in (None, truth.get(key))
        assert len(cache) <= 2 * limit
