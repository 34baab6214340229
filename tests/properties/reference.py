"""The behaviour specification as a slow, obvious machine: one request at a time, in fractions.

It reads the bundle's JSON and knows nothing of the product's code. A charge is a line in a list;
what a limiter holds is summed up from the list whenever it is asked. Times are fractions of
seconds. It speaks the part of the language that the strategies beside it write.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import ceil, floor
from typing import Any

DAY = 86_400
FIXED = {"1m": 60, "5m": 300, "1h": 3600}
TTL = 3600
Json = dict[str, Any]
Settling = Callable[[int | None], None]
"""Replace an estimate by the actual tokens; None = by nothing."""


@dataclass
class Asked:
    """A request: what a gateway sent."""

    method: str
    path: str
    headers: dict[str, str]
    query: dict[str, str]
    prompt: int = 0
    """Bytes of the one message; 0 = no body."""
    maximum: int | None = None


@dataclass
class Answer:
    """What the specification says of one request (§16.1 names)."""

    action: str = "allow"
    status: int = 200
    reason: str = "all_rules_passed"
    policy_id: str | None = None
    rule_name: str | None = None
    limit: Fraction | None = None
    remaining: Fraction | None = None
    retry_after_base: int = 0
    delay_ms: int = 0
    warning: str = ""
    loop_count: int = 0
    would_reject: bool = False
    original_reason: str = ""
    original_retry_after_base: int = 0
    reserved: int | None = None
    remaining_tpm: int | None = None
    remaining_tpd: int | None = None
    remaining_tokens: int | None = None


@dataclass
class RefusedError(Exception):
    """A check that says no."""

    reason: str
    retry: int
    status: int = 429
    limit: Fraction | None = None
    loop_count: int = 0
    remaining_tokens: int | None = None


def dec(value: float | Fraction) -> Fraction:
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def instant(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())


def seconds(wait: Fraction) -> int:
    return max(1, ceil(wait))


# --- counters: each holds a list of lines, and forgets nothing


@dataclass
class Bucket:
    """Level at a time; the one thing that is not a list."""

    level: Fraction
    last: Fraction

    def refill(self, rate: Fraction, capacity: Fraction, now: Fraction) -> Fraction:
        self.level = min(self.level + max(Fraction(0), now - self.last) * rate, capacity)
        self.last = now
        return self.level


@dataclass
class Tokens:
    minute: Bucket
    days: dict[int, int] = field(default_factory=dict)


@dataclass
class Ledger:
    """Charges of a sliding window: (time, amount)."""

    lines: list[tuple[Fraction, Fraction]] = field(default_factory=list)

    def total(self, start: Fraction, end: Fraction) -> Fraction:
        return sum((amount for at, amount in self.lines if start <= at < end), Fraction(0))


@dataclass
class Breaker(Ledger):
    opened: Fraction | None = None


@dataclass
class Spent:
    """A budget's usage by the start of its period."""

    periods: dict[Fraction, Fraction] = field(default_factory=dict)


@dataclass
class Hits:
    times: list[Fraction] = field(default_factory=list)


def period_of(period: str, now: Fraction) -> tuple[Fraction, Fraction]:
    """Return start and end of a period in UTC (§5.5.3)."""
    if period in FIXED:
        start = floor(now / FIXED[period]) * FIXED[period]
        return Fraction(start), Fraction(start + FIXED[period])
    day = datetime.fromtimestamp(floor(now), UTC).replace(hour=0, minute=0, second=0)
    if period == "1d":
        following = day + timedelta(days=1)
    elif period == "7d":
        day -= timedelta(days=day.weekday())
        following = day + timedelta(days=7)
    else:
        day = day.replace(day=1)
        following = (day + timedelta(days=31)).replace(day=1)
    return Fraction(int(day.timestamp())), Fraction(int(following.timestamp()))


# --- what requests say


def describe(key: str, asked: Asked) -> str | None:
    kind, _, name = key.partition(":")
    said = asked.headers if kind == "header" else asked.query
    return said.get(name) or None


def numeric(text: str | None) -> Fraction | None:
    try:
        number = Fraction(text or "")
    except ValueError:
        return None
    return number if number > 0 else None


def plain_cost(source: str, config: Json, asked: Asked) -> Fraction:
    if source == "fixed":
        return dec(config.get("fixed_cost", 1))
    found = numeric(describe(source, asked))
    return dec(config.get("default_cost", 1)) if found is None else found


def estimate(config: Json, asked: Asked) -> tuple[int, int]:
    """Return prompt and completion tokens (§5.6, simple_word)."""
    hint = int(asked.headers.get("x-token-estimate", 0))
    prompt = ceil(Fraction(asked.prompt, 4)) if asked.prompt else hint
    completion = asked.maximum if asked.maximum and asked.prompt else None
    completion = completion or config.get("default_max_completion", 1000)
    if "max_completion_tokens" in config:
        completion = min(completion, config["max_completion_tokens"])
    return prompt, completion


def micro(amount: Fraction) -> Fraction:
    """Costs are counted in whole micro-units."""
    return Fraction(max(1, round(amount * 1_000_000)), 1_000_000)


def spend(rule: Json, asked: Asked) -> Fraction:
    """Return what the breaker counts for a policy's first rule (§5.8)."""
    config = rule["algorithm_config"]
    if rule["algorithm"] == "token_bucket_llm" or config.get("cost_key") == "llm:tokens":
        return Fraction(sum(estimate(config, asked)))
    source = config.get("cost_key" if rule["algorithm"] == "cost_based" else "cost_source")
    return micro(plain_cost(source or "fixed", config, asked))


def shape(rule: Json) -> tuple[object, ...]:
    """Return what a rule's counters depend on beside its limits (§2.7)."""
    config = rule["algorithm_config"]
    keys = tuple(rule["limit_keys"])
    if rule["algorithm"] == "sliding_window":
        return keys, config["window_seconds"]
    if rule["algorithm"] == "cost_based":
        return keys, config["period"], config.get("cost_key") == "llm:tokens"
    # A rate of more than 3 decimals, or a fraction of a token a minute, asks for a finer unit.
    if rule["algorithm"] == "token_bucket":
        return keys, 1000 % dec(config["tokens_per_second"]).denominator == 0
    return keys, dec(config["tokens_per_minute"]).denominator == 1


# --- the machine


@dataclass
class Seen:
    """What the request under way has met so far."""

    undo: list[Callable[[], None]] = field(default_factory=list)
    tightest: tuple[str, str, Fraction, Fraction] | None = None
    throttle: tuple[str, str | None, str, int, int] | None = None
    warning: tuple[str, str | None, str, int] | None = None
    shadowed: tuple[str, str | None, RefusedError] | None = None
    llm: tuple[int, int, int | None] | None = None
    reserved: list[Settling] = field(default_factory=list)
    first: str | None = None

    def limiter(self, where: tuple[str, str], remaining: Fraction, limit: Fraction) -> None:
        if self.tightest is None or remaining / limit < self.tightest[2] / self.tightest[3]:
            self.tightest = (*where, remaining, limit)


class Reference:
    """One host. `counters` by (mode, policy, name, kind, shape) and then by key values."""

    def __init__(self, bundle: Json) -> None:
        self.newest: dict[tuple[object, ...], Json] = {}
        self.counters: dict[tuple[object, ...], dict[tuple[str, ...], Any]] = {}
        self.reservations: dict[int, tuple[Fraction, list[Settling]]] = {}
        self.settling_at = Fraction(0)
        self.bundle: Json = {"policies": []}
        self.load(bundle)

    def load(self, bundle: Json) -> None:
        """Switch; counters neither of the two bundles knows are gone."""
        known = self.known(self.bundle) | self.known(bundle)
        self.counters = {name: held for name, held in self.counters.items() if name in known}
        self.bundle = bundle
        for policy in bundle["policies"]:
            for rule in rules_of(policy):
                for mode in ("enforce", "shadow"):
                    self.newest[self.name_of(mode, policy, rule)] = rule

    def reset_breakers(self) -> None:
        for held in self.counters.values():
            for counter in held.values():
                if isinstance(counter, Breaker):
                    counter.lines.clear()
                    counter.opened = None

    def known(self, bundle: Json) -> set[tuple[object, ...]]:
        names: set[tuple[object, ...]] = set()
        for policy in bundle["policies"]:
            modes = {policy["spec"].get("mode", "enforce")}
            if bundle.get("global_shadow", {}).get("enabled"):
                modes.add("shadow")
            names |= {name for mode in modes for name in self.names(mode, policy)}
        return names

    def names(self, mode: str, policy: Json) -> list[tuple[object, ...]]:
        spec = policy["spec"]
        found: list[tuple[object, ...]] = [
            self.name_of(mode, policy, rule) for rule in rules_of(policy)
        ]
        if spec.get("loop_detection", {}).get("enabled"):
            found.append((mode, policy["id"], "loop", spec["loop_detection"]["window_seconds"]))
        if spec.get("circuit_breaker", {}).get("enabled"):
            found.append((mode, policy["id"], "breaker"))
        return found

    def name_of(self, mode: str, policy: Json, rule: Json) -> tuple[object, ...]:
        name = rule.get("name", "fallback_limit")
        return (mode, policy["id"], "rule", name, rule["algorithm"], shape(rule))

    def counter(
        self, name: tuple[object, ...], values: tuple[str, ...], fresh: Callable[[], Any]
    ) -> Any:  # noqa: ANN401 - whatever `fresh` makes
        return self.counters.setdefault(name, {}).setdefault(values, fresh())

    # a request, policy by policy

    def decide(self, number: int, asked: Asked, now: Fraction) -> Answer:
        seen = Seen()
        matching = [policy for policy in self.bundle["policies"] if selects(policy, asked)]
        if not matching:
            return Answer(reason="no_matching_policy")
        override = self.bundle.get("global_shadow", {})
        all_shadow = bool(override.get("enabled")) and instant(override["expires_at"]) > now
        for policy in sorted(matching, key=lambda policy: policy["id"].encode()):
            shadow = all_shadow or policy["spec"].get("mode") == "shadow"
            begun = len(seen.undo), len(seen.reserved)
            where: list[str | None] = [policy["id"], None]
            try:
                self.policy(policy, "shadow" if shadow else "enforce", asked, now, seen, where)
            except RefusedError as refusal:
                self.take_back(seen, *(begun if shadow else (0, 0)))
                if not shadow:
                    return self.rejected(refusal, where, seen)
                if seen.shadowed is None:
                    seen.shadowed = (policy["id"], where[1], refusal)
        if seen.reserved:
            self.reservations[number] = now, seen.reserved
        return admitted(seen)

    def take_back(self, seen: Seen, charges: int, reserved: int) -> None:
        for give_back in reversed(seen.undo[charges:]):
            give_back()
        del seen.undo[charges:]
        del seen.reserved[reserved:]

    def rejected(self, refusal: RefusedError, where: list[str | None], seen: Seen) -> Answer:
        answer = Answer(
            action="reject",
            status=refusal.status,
            reason=refusal.reason,
            policy_id=where[0],
            rule_name=where[1],
            limit=refusal.limit,
            remaining=None if refusal.limit is None else Fraction(0),
            retry_after_base=refusal.retry,
            loop_count=refusal.loop_count,
            remaining_tokens=refusal.remaining_tokens,
        )
        report(answer, seen)
        return answer

    def policy(  # noqa: PLR0913 - what the specification's sentence is about
        self,
        policy: Json,
        mode: str,
        asked: Asked,
        now: Fraction,
        seen: Seen,
        where: list[str | None],
    ) -> None:
        spec = policy["spec"]
        if spec.get("loop_detection", {}).get("enabled"):
            seen.first = seen.first or policy["id"]
            self.loop(policy, mode, asked, now, seen)
        if spec.get("circuit_breaker", {}).get("enabled"):
            seen.first = seen.first or policy["id"]
            self.breaker(policy, mode, asked, now, seen)
        rules = [rule for rule in spec["rules"] if holds(rule, asked)]
        if not rules and "fallback_limit" in spec:
            rules = [spec["fallback_limit"]]
        for rule in rules:
            where[1] = rule.get("name", "fallback_limit")
            values = tuple(describe(key, asked) or "" for key in rule["limit_keys"])
            status = rule.get("reject_status", 429)
            if "" in values:
                if rule.get("on_missing") == "reject":
                    raise RefusedError("descriptor_missing", 1, status)
                continue
            seen.first = seen.first or policy["id"]
            try:
                LIMITERS[rule["algorithm"]](self, policy, rule, mode, values, asked, now, seen)
            except RefusedError as refusal:
                refusal.status = status
                raise

    def loop(self, policy: Json, mode: str, asked: Asked, now: Fraction, seen: Seen) -> None:
        config = policy["spec"]["loop_detection"]
        window = config["window_seconds"]
        keys = sorted({key for rule in rules_of(policy) for key in rule["limit_keys"]})
        values = tuple(f"{key}={describe(key, asked)}" for key in keys if describe(key, asked))
        body = (asked.prompt, asked.maximum) if asked.prompt else None
        query = sorted(asked.query.items())
        same = (asked.method, asked.path, repr(query), repr(body), *values)
        hits = self.counter((mode, policy["id"], "loop", window), same, Hits)
        hits.times.append(now)
        count = sum(1 for time in hits.times if now - time < window)
        if count < config["threshold_identical_requests"]:
            return
        action = config.get("action", "reject")
        if action == "reject":
            raise RefusedError("loop_detected", window, loop_count=count)
        if mode == "shadow":
            return
        if action == "throttle":
            delay = min(count * 100, 30_000)
            seen.throttle = (policy["id"], None, "loop_detected", delay, count)
        if seen.warning is None:
            seen.warning = (policy["id"], None, "loop_detected", count)

    def breaker(self, policy: Json, mode: str, asked: Asked, now: Fraction, seen: Seen) -> None:
        config = policy["spec"]["circuit_breaker"]
        rules = policy["spec"]["rules"]
        keyed = next((rule for rule in rules if rule["limit_keys"]), None)
        scope = (describe(keyed["limit_keys"][0], asked) or "") if keyed else ""
        ledger = self.counter((mode, policy["id"], "breaker"), (scope,), Breaker)
        cost = spend(rules[0], asked) if rules else Fraction(1)
        reset = dec(config.get("auto_reset_after_minutes", 0)) * 60
        if ledger.opened is not None:
            if not reset:
                raise RefusedError("circuit_breaker_open", 60)
            if now - ledger.opened < reset:
                raise RefusedError("circuit_breaker_open", seconds(reset - (now - ledger.opened)))
            ledger.opened = None
        start = Fraction(floor(now / 60) * 60)
        before = ledger.total(start - 60, start)
        rate = before * (1 - (now - start) / 60) + ledger.total(start, start + 60) + cost
        if rate >= dec(config["spend_rate_threshold_per_minute"]):
            ledger.opened = now
            raise RefusedError("circuit_breaker_open", seconds(reset) if reset else 60)
        charge_line(ledger, now, cost, seen)

    # the four algorithms

    def token_bucket(self, policy: Json, rule: Json, mode: str, values: tuple[str, ...],  # noqa: PLR0913 - one signature for the four
                     asked: Asked, now: Fraction, seen: Seen) -> None:  # fmt: skip
        config = rule["algorithm_config"]
        rate, burst = dec(config["tokens_per_second"]), dec(config["burst"])
        cost = micro(plain_cost(config.get("cost_source", "fixed"), config, asked))
        bucket = self.counter(self.name_of(mode, policy, rule), values, lambda: Bucket(burst, now))
        level = bucket.refill(rate, burst, now)
        if level < cost:
            raise RefusedError("rate_limit_exceeded", seconds((cost - level) / rate), limit=burst)
        bucket.level -= cost

        def give_back() -> None:
            bucket.level = min(bucket.level + cost, burst)

        seen.undo.append(give_back)
        if mode == "enforce":
            seen.limiter((policy["id"], rule_name(rule)), Fraction(floor(bucket.level)), burst)

    def sliding_window(self, policy: Json, rule: Json, mode: str, values: tuple[str, ...],  # noqa: PLR0913 - one signature for the four
                       asked: Asked, now: Fraction, seen: Seen) -> None:  # fmt: skip
        config = rule["algorithm_config"]
        limit, window = dec(config["limit"]), config["window_seconds"]
        cost = micro(plain_cost(config.get("cost_source", "fixed"), config, asked))
        ledger = self.counter(self.name_of(mode, policy, rule), values, Ledger)
        start = Fraction(floor(now / window) * window)
        past, current = ledger.total(start - window, start), ledger.total(start, start + window)
        elapsed = now - start
        weighed = past * (1 - elapsed / window)
        if weighed + current + cost > limit:
            if past > 0 and current + cost <= limit:
                wait = window * (1 - (limit - cost - current) / past) - elapsed
            elif cost > limit:
                wait = 2 * window - elapsed
            else:
                wait = window - elapsed + max(Fraction(0), window * (1 - (limit - cost) / current))
            raise RefusedError("rate_limit_exceeded", seconds(wait), limit=limit)
        charge_line(ledger, now, cost, seen)
        if mode == "enforce":
            left = Fraction(floor(limit - weighed - current - cost))
            seen.limiter((policy["id"], rule_name(rule)), left, limit)

    def cost_based(self, policy: Json, rule: Json, mode: str, values: tuple[str, ...],  # noqa: PLR0913 - one signature for the four
                   asked: Asked, now: Fraction, seen: Seen) -> None:  # fmt: skip
        config = rule["algorithm_config"]
        budget = dec(config["budget"])
        tokens = config.get("cost_key") == "llm:tokens"
        cost = spend(rule, asked)
        spent = self.counter(self.name_of(mode, policy, rule), values, Spent)
        start, end = period_of(config["period"], now)
        usage = spent.periods.get(start, Fraction(0)) + cost
        if usage > budget:
            raise RefusedError("budget_exhausted", seconds(end - now), limit=budget)
        spent.periods[start] = usage

        def change(by: Fraction) -> None:
            spent.periods[start] = max(Fraction(0), spent.periods[start] + by)

        seen.undo.append(lambda: change(-cost))
        if tokens:
            seen.reserved.append(lambda actual: change((0 if actual is None else actual) - cost))
        if mode == "shadow":
            return
        where = policy["id"], rule_name(rule)
        seen.limiter(where, budget - usage, budget)
        stages = [
            stage
            for stage in config["staged_actions"]
            if stage["action"] != "reject"
            and usage / budget * 100 >= dec(stage["threshold_percent"])
        ]
        if not stages:
            return
        stage = max(stages, key=lambda stage: dec(stage["threshold_percent"]))
        if stage["action"] == "throttle":
            delay = min(ceil(dec(stage["delay_ms"])), 30_000)
            seen.throttle = (*where, "budget_throttle", delay, 0)
        elif seen.warning is None:
            seen.warning = (*where, "budget_warn", 0)

    def token_bucket_llm(self, policy: Json, rule: Json, mode: str, values: tuple[str, ...],  # noqa: PLR0913 - one signature for the four
                         asked: Asked, now: Fraction, seen: Seen) -> None:  # fmt: skip
        config = rule["algorithm_config"]
        tpm = dec(config["tokens_per_minute"])
        burst = dec(config.get("burst_tokens", config["tokens_per_minute"]))
        tpd = config.get("tokens_per_day")
        prompt, completion = estimate(config, asked)
        if prompt > config.get("max_prompt_tokens", prompt):
            raise RefusedError("prompt_tokens_exceeded", 1, limit=tpm)
        cost = prompt + completion
        if cost > config.get("max_tokens_per_request", cost):
            raise RefusedError("max_tokens_per_request_exceeded", 1, limit=tpm)
        held = self.counter(
            self.name_of(mode, policy, rule), values, lambda: Tokens(Bucket(burst, now))
        )
        level = held.minute.refill(tpm / 60, burst, now)
        if level < cost:
            raise RefusedError("tpm_exceeded", seconds((cost - level) / (tpm / 60)), limit=tpm)
        today = floor(now / DAY)
        used = held.days.get(today, 0)
        if tpd is not None and used + cost > tpd:
            raise RefusedError(
                "tpd_exceeded",
                seconds((today + 1) * DAY - now),
                limit=Fraction(tpd),
                remaining_tokens=max(0, tpd - used),
            )
        held.minute.level -= cost
        held.days[today] = used + cost

        name = self.name_of(mode, policy, rule)

        def settle(actual: int | None, at: Fraction) -> None:
            newest = self.newest[name]["algorithm_config"]
            tpm = dec(newest["tokens_per_minute"])
            burst = dec(newest.get("burst_tokens", newest["tokens_per_minute"]))
            held.minute.refill(tpm / 60, burst, at)
            less = cost - (0 if actual is None else actual)
            held.minute.level = min(held.minute.level + less, burst)
            held.days[today] = max(0, held.days[today] - less)

        seen.undo.append(lambda: settle(0, now))
        seen.reserved.append(lambda actual: settle(actual, self.settling_at))
        if mode == "shadow":
            return
        left = floor(held.minute.level)
        left_today = None if tpd is None else tpd - used - cost
        if seen.llm is None:
            seen.llm = (cost, left, left_today)
        where = policy["id"], rule_name(rule)
        seen.limiter(where, Fraction(left), tpm)
        if left_today is not None:
            seen.limiter(where, Fraction(left_today), Fraction(tpd))

    def settle(self, number: int, total: int | None, now: Fraction) -> bool:
        """Replace what request `number` reserved; False if there is nothing to settle."""
        self.settling_at = now
        at, reserved = self.reservations.pop(number, (now, []))
        if not reserved or now - at >= TTL:
            return False
        for change in reserved:
            change(total)
        return True


LIMITERS = {
    "token_bucket": Reference.token_bucket,
    "sliding_window": Reference.sliding_window,
    "cost_based": Reference.cost_based,
    "token_bucket_llm": Reference.token_bucket_llm,
}


def rules_of(policy: Json) -> list[Json]:
    fallback = policy["spec"].get("fallback_limit")
    return policy["spec"]["rules"] + ([] if fallback is None else [fallback])


def rule_name(rule: Json) -> str:
    return rule.get("name", "fallback_limit")


def charge_line(ledger: Ledger, now: Fraction, cost: Fraction, seen: Seen) -> None:
    line = (now, cost)
    ledger.lines.append(line)
    seen.undo.append(lambda: ledger.lines.remove(line))


def selects(policy: Json, asked: Asked) -> bool:
    selector = policy["spec"]["selector"]
    exact = selector.get("pathExact") == asked.path
    prefix = selector.get("pathPrefix")
    beneath = prefix is not None and asked.path.startswith(prefix.rstrip("/") + "/")
    return (exact or beneath) and asked.method in selector.get("methods", [asked.method])


def holds(rule: Json, asked: Asked) -> bool:
    return all(describe(key, asked) == text for key, text in rule.get("match", {}).items())


def report(answer: Answer, seen: Seen) -> None:
    if seen.shadowed is not None:
        answer.would_reject = True
        answer.original_reason = seen.shadowed[2].reason
        answer.original_retry_after_base = seen.shadowed[2].retry


def admitted(seen: Seen) -> Answer:
    """Return the outcome without a reject (§5.3)."""
    answer = Answer()
    report(answer, seen)
    if seen.tightest is not None:
        answer.policy_id, answer.rule_name, answer.remaining, answer.limit = seen.tightest
    else:
        answer.policy_id = seen.first
    if seen.shadowed is not None:
        answer.policy_id, answer.rule_name = seen.shadowed[:2]
    if seen.llm is not None:
        answer.reserved, answer.remaining_tpm, answer.remaining_tpd = seen.llm
    if seen.throttle is not None:
        answer.action = "throttle"
        answer.policy_id, answer.rule_name, answer.reason, answer.delay_ms, count = seen.throttle
    elif seen.warning is not None:
        answer.policy_id, answer.rule_name, answer.reason, count = seen.warning
    else:
        return answer
    answer.warning = "loop_warn" if answer.reason == "loop_detected" else answer.reason
    answer.loop_count = count or (seen.warning[3] if seen.warning else 0)
    return answer
