"""Questions to shards that answer, do not, or end before they have."""

import asyncio
from collections.abc import Callable

import pytest

from daemon.supervisor.admin.questions import NoAnswerError, Questions


class Shard:
    """A child as far as it can be asked; `react` gets every question's number."""

    def __init__(self, name: str, react: Callable[[int], None]) -> None:
        self.name = name
        self.ready = True
        self.react = react

    def tell(self, *message: object) -> None:
        assert message[0] == 13
        assert message[2:] == ("x",)
        self.react(message[1])  # type: ignore[arg-type]  # the number


def asked(*reactions: Callable[[Questions, Shard, int], None], seconds: float = 30) -> list[object]:
    """Ask as many shards as there are reactions."""

    async def ask() -> list[object]:
        shards: list[Shard] = []
        questions = Questions(shards, seconds)  # type: ignore[arg-type]  # what is used of a child
        for index, react in enumerate(reactions):
            shard = Shard(f"shard {index}", lambda _: None)
            shard.react = lambda number, shard=shard, react=react: react(questions, shard, number)  # type: ignore[misc]
            shards.append(shard)
        return await questions.ask(13, "x")

    return asyncio.run(ask())


def answer(text: str) -> Callable[[Questions, Shard, int], None]:
    return lambda questions, _, number: questions.hear(number, text)


def silent(_questions: Questions, _shard: Shard, _number: int) -> None:
    return


def test_answers_come_in_the_order_of_the_shards() -> None:
    def late(questions: Questions, _shard: Shard, number: int) -> None:
        asyncio.get_running_loop().call_later(0.02, questions.hear, number, "a")

    assert asked(late, answer("b"), answer("c")) == ["a", "b", "c"]


def test_a_shard_that_ends_is_asked_again_once_it_is_back() -> None:
    tries = []

    def dies(questions: Questions, shard: Shard, number: int) -> None:
        tries.append(number)
        if len(tries) == 1:
            shard.ready = False
            asyncio.get_running_loop().call_soon(questions.ended, shard)
            asyncio.get_running_loop().call_later(0.02, setattr, shard, "ready", True)  # noqa: FBT003 - an attribute's value
        else:
            questions.hear(tries[0], "of an earlier life")
            questions.hear(number, "back")

    assert asked(dies, answer("b")) == ["back", "b"]
    assert len(tries) == 2


def test_one_that_is_silent_is_named() -> None:
    with pytest.raises(NoAnswerError, match="shard 1 has not answered within"):
        asked(answer("a"), silent, seconds=0.05)


def test_one_that_never_comes_back_is_named() -> None:
    def dies(questions: Questions, shard: Shard, _number: int) -> None:
        shard.ready = False
        asyncio.get_running_loop().call_soon(questions.ended, shard)

    with pytest.raises(NoAnswerError, match="shard 0 has not answered within"):
        asked(dies, seconds=0.05)


def test_a_second_answer_changes_nothing() -> None:
    def twice(questions: Questions, _shard: Shard, number: int) -> None:
        questions.hear(number, "first")
        questions.hear(number, "second")
        questions.hear(99, "nobody asked")

    assert asked(twice) == ["first"]
