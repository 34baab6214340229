"""Snapshots of all processes (§15): a scrape sees what its client has seen."""

import asyncio

from daemon.supervisor.collection import Collection
from protocol import control


class Shard:
    """A shard that answers after a moment with what was true when it was asked."""

    def __init__(self) -> None:
        self.name = "shard 0"
        self.ready = True
        self.snapshot: object = None
        self.open: list[str] = []
        self.asked = 0
        self.collection: Collection

    def tell(self, kind: int, number: int) -> None:
        assert kind == control.COLLECT
        self.asked += 1
        figures = {"breakers": list(self.open)}
        asyncio.get_running_loop().call_later(0.01, self.collection.hear, self, number, figures)


def test_scrapes_during_a_round_share_the_next_one() -> None:
    async def scrapes() -> None:
        shard = Shard()
        collection = shard.collection = Collection([shard], [])  # type: ignore[list-item]  # as far as it is used
        first = asyncio.ensure_future(collection.collect())
        for _ in range(3):  # turns of the loop until the shard is asked
            await asyncio.sleep(0)
        assert shard.asked == 1
        shard.open = ["enforce:1:p:breaker"]
        others = [asyncio.ensure_future(collection.collect()) for _ in range(3)]
        await first
        assert collection.open_breakers() == set()
        await asyncio.gather(*others)
        assert collection.open_breakers() == {"enforce:1:p:breaker"}
        assert shard.asked == 2
        await collection.collect()
        assert shard.asked == 3

    asyncio.run(scrapes())
