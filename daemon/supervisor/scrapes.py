"""A client's scrape: the figures of all processes, asked for and put into words (behaviour §15)."""

from collections.abc import Callable

from daemon.supervisor import exposition
from daemon.supervisor.children import Child
from daemon.supervisor.collection import Collection
from daemon.supervisor.metrics import render
from daemon.supervisor.oversight import Oversight
from daemon.supervisor.reload import Reloader
from daemon.supervisor.reports import now_us
from protocol import control


class Scrapes:
    """Answers fronts whose clients ask for the metrics. `secret` is the key of digests."""

    def __init__(
        self,
        collection: Collection,
        reloader: Reloader,
        oversight: Oversight,
        secret: Callable[[], bytes],
    ) -> None:
        self._collection = collection
        self._reloader = reloader
        self._oversight = oversight
        self._secret = secret

    async def answer(self, front: Child, number: int) -> None:
        """Answer scrape `number` of a front."""
        await self._collection.collect()
        front.tell(control.METRICS, number, self._exposition())

    def _exposition(self) -> bytes:
        totals = self._collection.totals()
        active = self._reloader.active
        exposition.add_build(totals)
        exposition.add_bundle(totals, active.loaded.bundle, self._secret(), now_us())
        self._oversight.add_figures(totals)
        exposition.add_breakers(totals, active.breakers.items(), self._collection.open_breakers())
        return render(totals)
