"""Questions to the shards, over the sockets by which the supervisor leads them.

A shard that ends before it has answered is asked again once it is back: what it was told may have
been lost with it. Whoever does not answer in time is named.
"""

import asyncio
from collections.abc import Sequence
from itertools import count

from daemon.supervisor.children import Child

ANSWER_SECONDS = 10.0
_POLL_SECONDS = 0.01


class NoAnswerError(Exception):
    """A shard did not answer in time; the message names it."""


class Questions:
    """Asks all shards the same and gathers what they say."""

    def __init__(self, shards: Sequence[Child], seconds: float = ANSWER_SECONDS) -> None:
        self._shards = shards
        self._seconds = seconds
        self._numbers = count(1)
        self._waiting: dict[int, tuple[Child, asyncio.Future[object]]] = {}

    async def ask(self, kind: int, *arguments: object) -> list[object]:
        """Return every shard's answer to `[kind, number, *arguments]`, in the order of shards.

        Raises:
            NoAnswerError: one did not answer in time.
        """
        return list(
            await asyncio.gather(*[self._ask(shard, kind, arguments) for shard in self._shards])
        )

    async def _ask(self, shard: Child, kind: int, arguments: Sequence[object]) -> object:
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    while not shard.ready:  # noqa: ASYNC110 - many things make it so
                        await asyncio.sleep(_POLL_SECONDS)
                    number = next(self._numbers)
                    answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
                    self._waiting[number] = shard, answer
                    try:
                        shard.tell(kind, number, *arguments)
                        return await answer
                    except ChildProcessError:
                        continue
                    finally:
                        del self._waiting[number]
        except TimeoutError:
            raise NoAnswerError(
                f"{shard.name} has not answered within {self._seconds:g} s"
            ) from None

    def hear(self, number: int, answer: object) -> None:
        """Take a shard's answer; one that nobody waits for any more is dropped."""
        _, waiting = self._waiting.get(number, (None, None))
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def ended(self, shard: Child) -> None:
        """Hear that a process has ended, with whatever it was asked."""
        for asked, waiting in self._waiting.values():
            if asked is shard and not waiting.done():
                waiting.set_exception(ChildProcessError())
