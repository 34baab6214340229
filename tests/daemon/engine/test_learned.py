import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from daemon.engine.learned import (
    ENOUGH,
    PERCENT,
    SAMPLES,
    TAG_BYTES,
    LearnedCompletions,
    model_tag,
)

SMALL = model_tag("small")


def taught(*completions: int) -> LearnedCompletions:
    learned = LearnedCompletions()
    for tokens in completions:
        learned.note("p", SMALL, tokens)
    return learned


def test_it_says_nothing_until_it_knows_enough() -> None:
    assert taught().estimate("p", SMALL) is None
    assert taught(*[7] * (ENOUGH - 1)).estimate("p", SMALL) is None
    assert taught(*[7] * ENOUGH).estimate("p", SMALL) == 7


def test_an_estimate_is_one_token_at_least() -> None:
    assert taught(*[0] * ENOUGH).estimate("p", SMALL) == 1


def test_it_forgets_all_but_the_last() -> None:
    assert taught(*[5000] * SAMPLES, *[3] * SAMPLES).estimate("p", SMALL) == 3


@given(st.lists(st.integers(0, 50), min_size=ENOUGH, max_size=2 * SAMPLES))
def test_the_estimate_is_the_least_that_covers_95_percent(completions: list[int]) -> None:
    estimate = taught(*completions).estimate("p", SMALL)
    last = completions[-SAMPLES:]
    assert estimate is not None

    def covered(tokens: int) -> Fraction:
        return Fraction(sum(each <= tokens for each in last), len(last))

    share = Fraction(PERCENT, 100)
    assert covered(estimate) >= share
    if estimate > 1:
        assert covered(estimate - 1) < share


def test_policies_and_models_learn_apart() -> None:
    learned = taught(*[7] * ENOUGH)
    assert learned.estimate("q", SMALL) is None
    assert learned.estimate("p", model_tag("large")) is None


def test_pairs_in_use_survive_a_flood_of_others() -> None:
    learned = LearnedCompletions(pairs=4)
    for _ in range(ENOUGH):
        learned.note("p", SMALL, 7)
    for number in range(100):
        learned.note("p", model_tag(f"m{number}"), 1)
        assert learned.estimate("p", SMALL) == 7
    for number in range(100):
        learned.note("p", model_tag(f"n{number}"), 1)
    assert learned.estimate("p", SMALL) is None


def test_a_tag_stands_for_any_text() -> None:
    tags = {model_tag(text) for text in (None, "m", "M", "é", "\ud800", "x" * 10_000)}
    assert len(tags) == 6
    assert {len(tag) for tag in tags} == {TAG_BYTES}
    assert math.log2(256**TAG_BYTES) == 48
