"""The text of the metrics: shared by a round, never older than its question, half of the time."""

import asyncio
import time

from daemon.supervisor.collection import Collection
from daemon.supervisor.scrapes import Scrapes


def test_scrapes_share_a_round_and_leave_the_supervisor_time() -> None:
    made: list[int] = []

    def render() -> bytes:
        time.sleep(0.05)
        made.append(len(made))
        return b"%d" % len(made)

    async def play() -> None:
        scrapes = Scrapes(Collection([], []), render)
        loop = asyncio.get_running_loop()
        first = await scrapes.text()
        began = loop.time()
        texts = await asyncio.gather(*(scrapes.text() for _ in range(20)))
        assert loop.time() - began >= 0.05  # as long as the text before took
        assert first == b"1"
        assert set(texts) <= {b"2", b"3"}  # the first of them, and all that came during its round
        assert await scrapes.text() not in {first, *texts}

    asyncio.run(play())
    assert len(made) <= 4
