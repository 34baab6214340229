"""What is said of children that end, and in what words."""

import asyncio
import logging

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.supervisor.children import Child
from daemon.supervisor.endings import LOOP_ENDS
from daemon.supervisor.metrics import Totals, render
from daemon.supervisor.oversight import Oversight


class Few:
    """A family of one shard, which is never started here."""

    def __init__(self) -> None:
        self.shards = [Child("shard 0", "none", (), (), self)]  # type: ignore[arg-type]  # no parent is asked
        self.fronts: list[Child] = []
        self.keepers: list[Child] = []

    @property
    def all(self) -> list[Child]:
        return self.shards


def test_the_last_words_of_one_that_keeps_ending_are_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene() -> Totals:
        family = Few()
        oversight = Oversight(family, 10.0, lambda: False, lambda: None)  # type: ignore[arg-type]  # as far as it is used
        (shard,) = family.shards
        shard.proven = True
        for number in range(LOOP_ENDS + 2):
            shard.last_words = "ImportError: no such thing"
            shard.endings.ended(float(number), 0.1)
            oversight.failed(shard, f"trace {number}")
            oversight.ended(shard, "exit code 1")
        totals = Totals()
        oversight.add_figures(totals)
        return totals

    with caplog.at_level(logging.WARNING):
        totals = asyncio.run(scene())
    said = [record.getMessage() for record in caplog.records]
    (loop,) = [line for line in said if "keeps ending" in line]
    assert loop == (
        "shard 0 keeps ending: 5 times within 60 s, at last with exit code 1:"
        " ImportError: no such thing; starting it every 5 s"
    )
    assert len([line for line in said if "starting it again" in line]) == LOOP_ENDS - 1
    assert len([line for line in said if "trace" in line]) == LOOP_ENDS
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(render(totals).decode())
        for sample in family.samples
        if sample.labels == {"process": "shard"}
    }
    assert samples == {
        "fairvisor_process_restarts_total": LOOP_ENDS + 2,
        "fairvisor_process_hung_total": 0,
        "fairvisor_process_crash_looping": 1,
    }
