"""The text of the metrics, made as often as is asked but never for more than half of the time.

With hundreds of policies the text takes 80 ms to write, in which the supervisor does nothing else,
and whoever reaches a listener may ask for it. Scrapes that share a round of collection share its
text, and after each text the supervisor is left alone for as long as it took.
"""

import asyncio
from collections.abc import Callable

from daemon.supervisor.collection import Collection


class Scrapes:
    """Makes the text with `render` after a round of `collection`."""

    def __init__(self, collection: Collection, render: Callable[[], bytes]) -> None:
        self._collection = collection
        self._render = render
        self._round = 0
        self._text = b""
        self._free_at = 0.0

    async def text(self) -> bytes:
        """Return the metrics of all processes, none of them older than this call."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._free_at - loop.time()))
        number = await self._collection.collect()
        if number != self._round:
            began = loop.time()
            self._round, self._text = number, self._render()
            now = loop.time()
            self._free_at = now + (now - began)
        return self._text
