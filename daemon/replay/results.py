"""What every entry of a requests file came to, in the words of §16.1."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from daemon.engine.sources import Sources
from daemon.replay.entries import Ask, Entry, ResetBreakers, Settle
from daemon.replay.figures import Figures
from daemon.replay.simulation import Replay, request_of
from protocol.bundle import MICRO
from protocol.decision import Decision
from protocol.fields import decision_fields

Item = dict[str, Any]


def play(
    entries: Iterable[Entry],
    replay: Replay,
    sources: Sources,
    settled: Iterable[int],
    figures: Figures,
) -> Iterator[Item]:
    """Yield one item per request, settlement and reset, in order; `figures` adds them up.

    `settled` names the entries whose reservations will be asked for.
    """
    wanted = frozenset(settled)
    numbers: dict[int, int] = {}
    for entry in entries:
        if isinstance(entry, Ask):
            request = request_of(entry.request, sources)
            for _ in range(entry.repeat):
                number, finished = replay.decide(request, entry.at)
                if entry.index in wanted:
                    numbers[entry.index] = number
                else:
                    replay.forget(number)
                figures.add(finished, replay.evaluation)
                yield decided(entry, finished.decision)
        elif isinstance(entry, Settle):
            end = replay.settle(numbers[entry.of], entry.usage, entry.at)
            yield {
                "index": entry.index,
                "settled": end.settled,
                "refunded": end.refunded,
                "overrun": end.overrun,
            }
        elif isinstance(entry, ResetBreakers):
            replay.reset_breakers()
            yield {"index": entry.index, "reset_breaker": True}


def decided(ask: Ask, decision: Decision) -> Item:
    """Return a request's item: first the keys of §16.1, then further figures of the decision."""
    request: Mapping[str, Any] = ask.request
    seconds = ask.at / MICRO
    return {
        "index": ask.index,
        "at": int(seconds) if seconds.is_integer() else seconds,
        "method": request.get("method") or "GET",
        "path": request["path"],
        "action": decision.action,
        "status": decision.status,
        "reason": decision.reason,
        "policy_id": decision.policy_id,
        "rule_name": decision.rule_name,
        "limit": decision.limit,
        "remaining": decision.remaining,
        "retry_after_base": decision.retry_after_base,
        "delay_ms": decision.delay_ms,
        "mode": decision.mode,
        "would_reject": decision.would_reject,
        "original_reason": decision.original_reason or None,
        "loop_count": decision.loop_count,
        "reserved": decision.reserved,
        "headers": dict(decision_fields(decision)),
        "original_retry_after_base": decision.original_retry_after_base,
        "remaining_tpm": decision.remaining_tpm,
        "remaining_tpd": decision.remaining_tpd,
        "remaining_tokens": decision.remaining_tokens,
        "spend_rate": decision.spend_rate,
        "prompt": decision.prompt,
    }
