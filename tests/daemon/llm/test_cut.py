from hypothesis import given
from hypothesis import strategies as st

from daemon.llm.cut import Cut, Gate, cut_of
from protocol.bundle import LlmBudget, Streaming


def budget(cap: int | None, streaming: Streaming = Streaming()) -> LlmBudget:  # noqa: B008 - frozen
    return LlmBudget(1, 1, max_completion_tokens=cap, streaming=streaming)


def test_the_smallest_cap_that_wants_a_cut() -> None:
    assert cut_of([]) is None
    assert cut_of([budget(None), budget(5, Streaming(enabled=False))]) is None
    assert cut_of([budget(5, Streaming(enforce_mid_stream=False))]) is None
    found = cut_of([budget(9), budget(7), budget(5, Streaming(enabled=False))])
    assert found == Cut(7, Streaming())


def test_an_overrun_goes_unnoticed_between_checks() -> None:
    gate = Gate(Cut(110, Streaming(buffer_tokens=100)))
    assert [gate.crossed(count) for count in (105, 125, 185, 199, 205)] == [False] * 4 + [True]


def test_a_long_event_skips_the_checks_that_it_passed() -> None:
    gate = Gate(Cut(360, Streaming(buffer_tokens=100)))
    assert [gate.crossed(count) for count in (350, 370, 399, 400)] == [False, False, False, True]


@given(st.lists(st.integers(1, 50), min_size=1), st.integers(1, 300), st.integers(1, 100))
def test_checks_stand_at_multiples(events: list[int], cap: int, step: int) -> None:
    gate = Gate(Cut(cap, Streaming(buffer_tokens=step)))
    before = 0
    for event in events:
        now = before + event
        assert gate.crossed(now) == (now // step > before // step and now > cap)
        before = now
