"""Verdicts to a decision (behaviour §5.3, §8.2, §23): the fold over one evaluation, in order.

`REASONS` is §23 as a table: what a refusal by each kind of limiter is called.
"""

from math import ceil, inf

import msgspec

from daemon.engine.checks import Check
from daemon.engine.evaluation import Evaluation, granted
from daemon.engine.limits import Gauge, gauges, refused_gauge, roomier, stage_of
from protocol.bundle import MICRO, LlmBudget
from protocol.decision import Decision, Limit
from protocol.operations import Verdict

MAX_DELAY_MS = 30_000
LOOP_DELAY_MS = 100

REASONS = {
    "token_bucket": "rate_limit_exceeded",
    "sliding_window": "rate_limit_exceeded",
    "cost_based": "budget_exhausted",
    "token_bucket_llm": "tpm_exceeded",
    "loop": "loop_detected",
    "breaker": "circuit_breaker_open",
}


class Outcome(msgspec.Struct):
    """The fold's state; `refused_at` is the index of the enforcing refusal."""

    refused_at: int | None = None
    tightest: tuple[Check, Gauge] | None = None
    ratio: float = inf
    throttle: tuple[Check, int, str, int] | None = None
    warning: tuple[Check, str, int] | None = None
    shadowed: tuple[Check, str, int] | None = None
    spend_rate: float | None = None
    degraded: list[tuple[str, str]] = []
    tripped: list[Check] = []
    llm: tuple[int | None, int | None, int | None] | None = None
    prompt: int | None = None


def fold(  # noqa: C901 - one loop in evaluation order, all cases in sight
    evaluation: Evaluation,
) -> tuple[Outcome, Decision]:
    """Return what happened and the decision (Retry-After not yet jittered).

    Notes on the evaluation where shadow policies stopped.
    """
    outcome = Outcome()
    skipped = -1
    replies = evaluation.replies
    # Index by index and by hand: `evaluation.verdict` and `granted` would be a call each, 2 µs for
    # a policy of seven checks.
    for index, (check, (shard, place)) in enumerate(
        zip(evaluation.checks, evaluation.places, strict=True)
    ):
        if check.segment == skipped:
            continue
        verdict = replies[shard][place] if shard in replies else evaluation.verdict(index)
        if type(verdict) is int and verdict >= 0:
            _admit(outcome, evaluation, index, verdict)
            continue
        if verdict is None:
            if check.rule is None:
                continue
            refuse = check.on_error == "reject"
            outcome.degraded.append((check.policy_id, "reject" if refuse else "allow"))
            if not refuse:
                continue
            reason, retry, status = "counter_unavailable", 1, 503
        elif granted(verdict):
            _admit(outcome, evaluation, index, verdict)
            continue
        else:
            reason, retry, status = _refusal(evaluation, index, verdict)
        if check.kind == "breaker":
            _note_breaker(outcome, check, verdict)
        if check.shadow:
            skipped = check.segment
            evaluation.stops[skipped] = index
            if outcome.shadowed is None:
                outcome.shadowed = (check, reason, retry)
            continue
        outcome.refused_at = index
        return outcome, _reject(outcome, evaluation, index, reason, retry, status)
    return outcome, _admitted(outcome, evaluation)


def _refusal(evaluation: Evaluation, index: int, verdict: Verdict) -> tuple[str, int, int]:
    check = evaluation.checks[index]
    known = evaluation.refusals.get(index)
    if known is not None:
        return known, 1, check.status
    if isinstance(verdict, int):
        return REASONS[check.kind], -verdict, check.status
    head = verdict[0] or 0
    if check.kind == "token_bucket_llm" and verdict[1] == 1:
        return "tpd_exceeded", -head, check.status
    return REASONS[check.kind], -head, check.status


def _admit(outcome: Outcome, evaluation: Evaluation, index: int, verdict: Verdict) -> None:
    check = evaluation.checks[index]
    if check.kind == "breaker":
        _note_breaker(outcome, check, verdict)
    elif check.shadow:
        return
    elif check.kind == "loop":
        _note_loop(outcome, check, verdict)
    else:
        _note_limiter(outcome, evaluation, index, verdict)


def _note_loop(outcome: Outcome, check: Check, verdict: Verdict) -> None:
    count = verdict if isinstance(verdict, int) else verdict[0] or 0
    loop = check.loop
    if loop is None or count < loop.threshold:
        return
    if loop.action == "throttle":
        delay = min(count * LOOP_DELAY_MS, MAX_DELAY_MS)
        outcome.throttle = (check, delay, "loop_detected", count)
    if outcome.warning is None:
        outcome.warning = (check, "loop_detected", count)


def _note_limiter(outcome: Outcome, evaluation: Evaluation, index: int, verdict: Verdict) -> None:
    check = evaluation.checks[index]
    if check.kind == "token_bucket_llm" and outcome.llm is None and isinstance(verdict, list):
        cost = evaluation.costs[index]
        outcome.llm = (cost if isinstance(cost, int) else None, verdict[0], verdict[1])
        outcome.prompt = _prompt(check, evaluation)
    if roomier(check, verdict, outcome.ratio):
        return
    for gauge in gauges(check, verdict):
        ratio = gauge.remaining / gauge.limit
        if ratio < outcome.ratio:
            outcome.ratio = ratio
            outcome.tightest = (check, gauge)
    is_budget = check.kind == "cost_based" and isinstance(verdict, int)
    stage = stage_of(check, verdict) if is_budget else None  # type: ignore[arg-type]
    if stage is None:
        return
    if stage.action == "throttle":
        delay = min(ceil(stage.delay_ms), MAX_DELAY_MS)
        outcome.throttle = (check, delay, "budget_throttle", 0)
    elif outcome.warning is None:
        outcome.warning = (check, "budget_warn", 0)


def _prompt(check: Check, evaluation: Evaluation) -> int | None:
    config = check.rule.algorithm if check.rule else None
    if isinstance(config, LlmBudget):
        return evaluation.context.prompt_tokens(config.estimator)
    return None


def _note_breaker(outcome: Outcome, check: Check, verdict: Verdict | None) -> None:
    rate = verdict if isinstance(verdict, int) else verdict[2] if verdict else None
    if outcome.spend_rate is None and rate is not None:
        outcome.spend_rate = rate / MICRO
    if isinstance(verdict, list) and verdict[1]:
        outcome.tripped.append(check)


def _reject(  # noqa: PLR0913 - the parts of one refusal
    outcome: Outcome, evaluation: Evaluation, index: int, reason: str, retry: int, status: int
) -> Decision:
    check = evaluation.checks[index]
    verdict = evaluation.verdict(index)
    gauge = refused_gauge(check, verdict, reason, retry, evaluation.context.now)
    day_left = verdict[2] if reason == "tpd_exceeded" and isinstance(verdict, list) else None
    loop_count = verdict[1] if check.kind == "loop" and isinstance(verdict, list) else 0
    would, original, base = _shadow_report(outcome)
    return Decision(
        action="reject",
        status=status,
        reason=reason,
        policy_id=check.policy_id,
        rule_name=check.name,
        route=check.route,
        limit=gauge.limit if gauge else None,
        remaining=0 if gauge else None,
        fields=_fields(check, gauge, evaluation.context.now) if gauge else None,
        retry_after_base=retry,
        loop_count=loop_count or 0,
        would_reject=would,
        original_reason=original,
        original_retry_after_base=base,
        remaining_tokens=day_left,
        spend_rate=outcome.spend_rate,
        degraded=_degraded(outcome),
        matched=evaluation.matched,
    )


def _admitted(outcome: Outcome, evaluation: Evaluation) -> Decision:
    """Return the outcome without a reject: §5.3, row by row."""
    tightest = outcome.tightest
    named = tightest[0] if tightest else None
    action, reason, warning, delay, count = "allow", "all_rules_passed", "", 0, 0
    if outcome.throttle is not None:
        named, delay, reason, count = outcome.throttle
        action = "throttle"
        warning = "loop_warn" if reason == "loop_detected" else reason
    elif outcome.warning is not None:
        named, reason, count = outcome.warning
        warning = "loop_warn" if reason == "loop_detected" else reason
    if not count and outcome.warning is not None:
        count = outcome.warning[2]
    would, original, base = _shadow_report(outcome)
    if would and outcome.shadowed is not None and reason == "all_rules_passed":
        named = outcome.shadowed[0]
    first = evaluation.checks[0] if evaluation.checks else None
    reserved, minute, day = outcome.llm or (None, None, None)
    gauge = tightest[1] if tightest else None
    return Decision(
        action="throttle" if action == "throttle" else "allow",
        reason=reason,
        policy_id=named.policy_id if named else (first.policy_id if first else None),
        rule_name=named.name if named else None,
        route=(named or first).route if named or first else "none",  # type: ignore[union-attr]
        limit=gauge.limit if gauge else None,
        remaining=gauge.remaining if gauge else None,
        fields=_fields(tightest[0], tightest[1], evaluation.context.now) if tightest else None,
        delay_ms=delay,
        warning=warning,
        loop_count=count,
        mode="shadow" if would else "enforce",
        would_reject=would,
        original_reason=original,
        original_retry_after_base=base,
        reserved=reserved,
        prompt=outcome.prompt,
        remaining_tpm=minute,
        remaining_tpd=day,
        spend_rate=outcome.spend_rate,
        degraded=_degraded(outcome),
        matched=evaluation.matched,
    )


def _shadow_report(outcome: Outcome) -> tuple[bool, str, int]:
    if outcome.shadowed is None:
        return False, "", 0
    return True, outcome.shadowed[1], outcome.shadowed[2]


def _degraded(outcome: Outcome) -> str:
    return outcome.degraded[-1][1] if outcome.degraded else ""


def _fields(check: Check, gauge: Gauge, now: int) -> Limit:
    window, reset = gauge.window, gauge.reset
    if gauge.to_end is not None:
        window, reset = gauge.to_end(now)
    return Limit(check.policy_id, gauge.quota, max(0, int(gauge.remaining)), window, reset)
