"""What a front tells its operators: decision records, and warnings that say what to do (§19).

Nothing in here may fail a request: it is told after the fact, and an error of its own is one more
line to log.
"""

import logging
from collections.abc import Sequence

from daemon.engine.checks import Check
from daemon.engine.edge_headers import first_edge_header
from daemon.engine.record import Decided, Record, decision_record, tripped_records
from daemon.front.inbound import Inbound
from daemon.front.rate_limited_log import RateLimitedLog
from daemon.front.records import RecordWriter
from daemon.front.tally import Tally
from daemon.front.trace import place


class Recorder:
    """Records of one front; with `everything`, of plain allows too. `now` is in steady seconds."""

    def __init__(
        self, writer: RecordWriter, log: RateLimitedLog, tally: Tally, *, everything: bool
    ) -> None:
        self.everything = everything
        self._writer = writer
        self._log = log
        self._tally = tally

    def decided(self, decided: Decided, now: float) -> None:
        """Write a decision's record and what else it set off."""
        try:
            self._writer.submit(decision_record(decided))
            for event in tripped_records(decided):
                self._writer.submit(event)
        except Exception as error:  # noqa: BLE001 - a record must not fail the request it is about
            self._say("record", error, now)

    def event(self, record: Record, now: float) -> None:
        """Write another event's record."""
        try:
            self._writer.submit(record)
        except Exception as error:  # noqa: BLE001 - as above
            self._say("record", error, now)

    def failed(self, error: Exception, now: float) -> None:
        """Count and log a request that could not be decided."""
        self._tally.add("evaluate_errors_total", (type(error).__name__,))
        self._say("decision", error, now)

    def untrusted(self, inbound: Inbound, now: float) -> None:
        """Warn of a peer that sends edge headers without being trusted (§4.2)."""
        if self._log.quiet("edge", inbound.peer, now):
            return
        name = first_edge_header(inbound.headers)
        if name is not None:
            self._log.say(
                "edge",
                inbound.peer,
                now,
                logging.WARNING,
                "ignored %s from %s, which is not a trusted proxy: if it is your gateway, add its "
                "address to FAIRVISOR_TRUSTED_PROXIES",
                _edge_name(name),
                inbound.peer,
            )

    def missing(self, missing: Sequence[tuple[Check, str]], now: float) -> None:
        """Warn of rules that a request had no value for (§4.4)."""
        for check, key in missing:
            self._log.say(
                "missing",
                f"{check.policy_id}\0{check.name}\0{key}",
                now,
                logging.WARNING,
                "rule %r of policy %r was not applied: the request has no %s",
                check.name,
                check.policy_id,
                key,
            )

    def _say(self, what: str, error: Exception, now: float) -> None:
        """Log where an error came from. Its message stays out: it may quote the request."""
        kind = type(error).__name__
        message = "a %s failed with %s at %s"
        where = place(error)
        self._log.say("error", f"{what} {kind}", now, logging.ERROR, message, what, kind, where)


def _edge_name(name: bytes) -> str:
    """Return a header's name for the log: the sender chose what follows a known beginning."""
    return name[:64].decode("latin-1").encode("ascii", "backslashreplace").decode()
