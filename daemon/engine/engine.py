"""The engine: one compiled bundle, asked about one request after another (behaviour §5.1).

`begin` returns a decision at once, or an `Evaluation` whose parts go to the shards; `finish` turns
the replies into the decision and what must be taken back.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import msgspec
from msgspec.structs import replace

from daemon.engine.checks import Check, CompiledPolicy
from daemon.engine.compile import compile_bundle
from daemon.engine.context import Context
from daemon.engine.costs import CostCompiler
from daemon.engine.evaluation import Evaluation, Undo
from daemon.engine.extract import Extractor, extractor
from daemon.engine.identity import claims_reader
from daemon.engine.jitter import jitter_identity, retry_after
from daemon.engine.learned import model_tag
from daemon.engine.limit_keys import LimitKeys
from daemon.engine.outcome import Outcome, fold
from daemon.engine.routes import Routes
from daemon.engine.settlement import reservation_text
from daemon.engine.sources import Sources
from protocol.bundle import MICRO, Bundle, KillSwitch, Override
from protocol.decision import Decision
from protocol.operations import Key, RuleSpec
from protocol.paths import spellings
from protocol.placement import encode_key, keyed_beside
from protocol.request import Request
from protocol.usage import Usage

NO_BUNDLE = Decision(
    action="reject", status=503, reason="no_bundle_loaded", retry_after_base=1, retry_after=1
)
UNAVAILABLE = Decision(
    action="reject", status=503, reason="service_unavailable", retry_after_base=1, retry_after=1
)
_NO_MATCH = Decision(reason="no_matching_policy")
_KILL_SWITCH_RETRY = 3600


@dataclass(frozen=True, slots=True)
class _Switch:
    entry: KillSwitch
    extract: Extractor
    value: str
    route: str | None
    expires_at: float


class Finished(msgspec.Struct, frozen=True):
    """A decision, what to take back per shard, and what metrics and records want to know."""

    decision: Decision
    undos: dict[int, list[Undo]] = {}
    outcome: Outcome | None = None


class Engine:
    """One bundle, compiled. `generation` numbers it among the bundles of this daemon."""

    def __init__(self, bundle: Bundle, sources: Sources, generation: int = 0) -> None:
        self.bundle = bundle
        self.sources = sources
        self.generation = generation
        plan = compile_bundle(bundle, CostCompiler(bundle, sources.prices))
        self.table: tuple[RuleSpec, ...] = plan.table
        self.checks: dict[str, Check] = {
            plan.table[check.number].identity: check
            for policy in plan.policies + plan.shadowed
            for check in policy.checks
        }
        self._routes = Routes(plan.policies)
        self._shadow_routes = Routes(plan.shadowed)
        self._switches = tuple(
            _Switch(
                switch,
                extractor(switch.scope_key),
                switch.scope_value,
                switch.route,
                float("inf") if switch.expires_at is None else switch.expires_at,
            )
            for switch in bundle.kill_switches
        )
        self._claims: Callable[[bytes, float], dict[str, object] | None] = claims_reader(
            bundle.jwt, sources.jwks
        )
        self.overridable = bool(bundle.global_shadow or bundle.kill_switch_override)
        self._routed_first = not (self._switches or self.overridable or bundle.jwt.required)

    def unseen(self, method: str, host: str, path: str) -> Decision | None:
        """Return what `begin` would decide on a request that no policy sees, else None.

        None, too, where anything but the policies' selectors may have a say.
        """
        if not self._routed_first or self._routes.find(method, host, path):
            return None
        return _NO_MATCH

    def counts_words(self, context: Context) -> bool:
        """Return whether a decision needs the prompt's count by vocabulary (§5.6)."""
        if self._barred(context) is not None:
            return False
        request = context.request
        shadowed = active(self.bundle.global_shadow, context.now)
        routes = self._shadow_routes if shadowed else self._routes
        return any(
            _estimator(check) == "tokenizer"
            for policy in routes.find(request.method, request.host, request.path)
            for check in policy.checks
        )

    def begin(
        self, request: Request, now: int, read: Context | None = None
    ) -> Decision | Evaluation:
        """Return the decision if no counter is needed, else the operations to send.

        `now` is in microseconds since the epoch; `read` is where the request's body was read
        before.
        """
        context = Context(request, self.sources, self._claims, now)
        if read is not None:
            context.adopt(read)
        barred = self._barred(context)
        if barred is not None:
            return barred
        shadowed = active(self.bundle.global_shadow, now)
        routes = self._shadow_routes if shadowed else self._routes
        policies = routes.find(request.method, request.host, request.path)
        if not policies:
            return _NO_MATCH
        evaluation = Evaluation(context, self.sources.shards)
        reserves = _plan(policies, context, evaluation, self.sources.keys)
        if reserves and evaluation.parts:
            evaluation.reserve(self.sources.draw_id())
        return evaluation

    def _barred(self, context: Context) -> Decision | None:
        """Return the refusal of a request that no policy gets to see."""
        now = context.now
        if self._switches and not active(self.bundle.kill_switch_override, now):
            switch = self._switched_off(context)
            if switch is not None:
                return self._spread(_KILLED, context)
        if self.bundle.jwt.required and context.claims is None:
            return _INVALID_TOKEN
        return None

    def finish(self, evaluation: Evaluation) -> Finished:
        """Return the decision of an evaluation whose replies are in (or will never be)."""
        outcome, decision = fold(evaluation)
        undos = evaluation.undos(outcome.refused_at)
        if decision.action == "reject":
            decision = self._spread(decision, evaluation.context)
        elif evaluation.reservation:
            decision = replace(decision, reservation=reservation_of(evaluation))
        return Finished(decision, undos, outcome)

    def learn(self, identities: Iterable[str], model: bytes, usage: Usage | None) -> None:
        """Learn from a settlement that found charges of the rules `identities` (§11.2).

        `model` is the tag that stood in the reservation. Without counts there is nothing to learn.
        """
        if not model or usage is None or usage.completion is None:
            return
        checks = (self.checks.get(identity) for identity in identities)
        for policy in {check.policy_id for check in checks if check is not None and check.learns}:
            self.sources.learned.note(policy, model, usage.completion)

    def context(self, request: Request, now: int) -> Context:
        """Return a request's lazy views, for those who report on a decision afterwards."""
        return Context(request, self.sources, self._claims, now)

    def kill_switch(self, context: Context) -> KillSwitch | None:
        """Return the kill switch that matches (§6.2), whether or not switches are overridden."""
        switch = self._switched_off(context)
        return switch.entry if switch else None

    def _switched_off(self, context: Context) -> _Switch | None:
        path = context.request.path
        now = context.now / MICRO
        for switch in self._switches:
            if switch.expires_at < now or switch.extract(context) != switch.value:
                continue
            if switch.route in (None, path) or switch.route in spellings(path):
                return switch
        return None

    def _spread(self, decision: Decision, context: Context) -> Decision:
        """Return a reject with its Retry-After jittered by who asks (§8.3)."""
        if decision.status == 401:  # noqa: PLR2004 - tells nobody to come back
            return decision
        spread = retry_after(
            decision.retry_after_base,
            decision.reason,
            decision.policy_id or "",
            decision.rule_name or "",
            jitter_identity(context.claims, context.address, context.request.path),
            key=self.sources.jitter_key,
        )
        return replace(decision, retry_after=spread)


_KILLED = Decision(
    action="reject",
    status=429,
    reason="kill_switch_active",
    retry_after_base=_KILL_SWITCH_RETRY,
)
_INVALID_TOKEN = Decision(action="reject", status=401, reason="invalid_token")


def _estimator(check: Check) -> str:
    config = check.rule.algorithm if check.rule is not None else None
    return getattr(config, "estimator", "")


def reservation_of(evaluation: Evaluation, *, silent: bool = False) -> str:
    """Return the id to settle with, "" if nothing that can be settled was charged.

    With `silent` it reaches shards that have not answered, too: they may have charged by then.
    """
    places = evaluation.reserved_places(silent=silent)
    if not places:
        return ""
    return reservation_text(evaluation.reservation, places, learning_tag(evaluation))


def learning_tag(evaluation: Evaluation) -> bytes:
    """Return what a reservation says of its model: nothing, unless a rule learns."""
    if any(check.learns for check in evaluation.checks):
        return model_tag(evaluation.context.llm.model)
    return b""


def active(override: Override | None, now: int) -> bool:
    """Return whether an override block is in force (§2.2)."""
    return override is not None and override.expires_at * MICRO > now


def _plan(
    policies: Sequence[CompiledPolicy], context: Context, evaluation: Evaluation, keys: LimitKeys
) -> bool:
    """Add the operations of every policy in order; return whether any reserves."""
    evaluation.matched = tuple([policy.id for policy in policies])
    reserves = False
    for policy in policies:
        if policy.loop is not None:
            placed = encode_key(_present(policy.placed_by, context), keys.max_chars)
            key = keyed_beside(_fingerprint(policy, context), placed)
            evaluation.add(policy.loop, key, 0, placed)
        if policy.breaker is not None:
            scope = (policy.breaker_key(context) if policy.breaker_key else None) or ""
            cost = policy.breaker_cost(context) if policy.breaker_cost else MICRO
            evaluation.add(policy.breaker, keys.name((scope,)), cost)
        matched = False
        refused = False
        for check in policy.rules:
            if check.match and any(read(context) != text for read, text in check.match):
                continue
            matched = True
            reserves = check.reserves or reserves
            if not _apply(check, context, evaluation, keys):
                refused = True
                break
        if not matched and policy.fallback is not None:
            reserves = policy.fallback.reserves or reserves
            refused = not _apply(policy.fallback, context, evaluation, keys)
        if refused and not policy.shadow:
            break
    return reserves


def _apply(check: Check, context: Context, evaluation: Evaluation, keys: LimitKeys) -> bool:
    """Add one rule's operation; return False if the request is known to fail here."""
    key: Key
    if check.only is not None:
        value = check.only(context)
        if value is None:
            return _missing(check, evaluation)
        key = value if len(value) <= keys.max_chars else keys.name((value,))
    else:
        values = []
        for extract in check.extract:
            value = extract(context)
            if value is None:
                return _missing(check, evaluation)
            values.append(value)
        key = keys.name(values)
    cost: object = check.fixed_cost
    if cost is None and check.cost is not None:
        cost = check.cost(context)
        if isinstance(cost, str):
            evaluation.refuse(check, cost)
            return False
    evaluation.add(check, key, cost)
    return True


def _missing(check: Check, evaluation: Evaluation) -> bool:
    rule = check.rule
    if rule is None:
        return True
    context = evaluation.context
    pairs = zip(rule.limit_keys, check.extract, strict=True)
    evaluation.missing += [(check, key) for key, extract in pairs if extract(context) is None]
    if rule.on_missing == "skip":
        return True
    evaluation.refuse(check, "descriptor_missing")
    return False


def _present(extractors: Sequence[Extractor], context: Context) -> list[str]:
    return [value for value in (extract(context) for extract in extractors) if value is not None]


def _fingerprint(policy: CompiledPolicy, context: Context) -> bytes:
    """Return 128 bits that are equal for identical requests of a policy (§5.7)."""
    request = context.request
    query = request.query
    if "&" in query:
        query = "&".join(sorted(query.split("&")))
    parts = [request.method, request.path, query]
    for key, extract in policy.fingerprint_keys:
        value = extract(context)
        if value is not None:
            parts += (key, value)
    # Counted and measured, or a body could pass for a descriptor; one text, because hashing part by
    # part costs 2 µs more.
    text = f"{len(parts)};" + "".join([f"{len(part)}:{part}" for part in parts])
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
    if request.body:
        digest.update(request.body)
    return digest.digest()
