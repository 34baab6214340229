"""What settlements tell the metrics and the records (behaviour §15, §19)."""

from collections.abc import Callable
from typing import Any

from daemon.engine.engine import Engine
from daemon.engine.settlement import Settlement
from daemon.engine.settlement_record import settlement_record, truncation_record
from daemon.front.recorder import Recorder
from daemon.front.settler import Settled
from daemon.front.tally import Tally
from protocol.decision import Decision


class Ledger:
    """Keeps a front's settlements.

    `engine` gives the active one; `now` is in microseconds since the epoch, `clock` in steady
    seconds.
    """

    def __init__(
        self,
        tally: Tally,
        recorder: Recorder,
        engine: Callable[[], Engine | None],
        now: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._tally = tally
        self._recorder = recorder
        self._engine = engine
        self._now = now
        self._clock = clock

    def settled(self, settled: Settled) -> None:
        """Count and record how a proxied exchange's reservation ended."""
        self._tally.add("settlements_total", (settled.outcome,))
        if settled.outcome == "kept":
            self._tally.add("reservations_kept_total", (settled.why,))
        self._write(settled)

    def reported(self, settlement: Settlement, entries: list[list[Any]]) -> None:
        """Count and record what a gateway settled."""
        self._write(Settled("used", entries, settlement.usage, model=settlement.model))

    def truncated(self, decision: Decision, counted: int) -> None:
        """Record that a proxied stream was cut at so many counted tokens."""
        engine = self._engine()
        if engine is not None:
            record = truncation_record(engine, self._now(), decision, counted)
            self._recorder.event(record, self._clock())

    def _write(self, settled: Settled) -> None:
        engine, now = self._engine(), self._now()
        if engine is None:
            return
        engine.learn((entry[1] for entry in settled.entries), settled.model, settled.usage)
        for _number, identity, reserved, actual in settled.entries:
            check = engine.checks.get(identity)
            if check is not None:
                known = settled.outcome != "kept"
                self._tally.settled(check, reserved, actual, now, known=known)
        record = settlement_record(
            engine, now, settled.entries, settled.usage, settled.outcome, settled.why
        )
        self._recorder.event(record, self._clock())
