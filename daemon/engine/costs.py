"""What a request costs a rule, as functions of the request (behaviour §5.5.1, §5.5.3, §5.6, §5.8).

A cost function returns what goes on the wire: an integer (micro-units; whole tokens for an LLM
bucket), `[micro-dollars, rates]` for a dollar budget, or a reason when it already knows that the
request fails.
"""

from collections.abc import Callable

from daemon.engine.checks import Cost
from daemon.engine.context import Context
from daemon.engine.extract import extractor
from daemon.engine.learned import model_tag
from daemon.llm.builtin_prices import BuiltinPrices
from daemon.llm.prices import PriceTable
from protocol.amounts import MAX_COST, positive_micro
from protocol.bundle import MICRO, Algorithm, Bundle, CostBudget, CostSource, LlmBudget, Rule
from protocol.pricing import estimate_cost

UNKNOWN_MODEL = "unknown_model"


class CostCompiler:
    """Turns a bundle's cost sources into functions; loads the price table only if one needs it."""

    def __init__(self, bundle: Bundle, builtin: Callable[[], BuiltinPrices]) -> None:
        rules = [rule for policy in bundle.policies for rule in policy.rules]
        rules += [policy.fallback_limit for policy in bundle.policies if policy.fallback_limit]
        priced = any(_kind(rule) == "llm:usd" for rule in rules)
        self._prices = PriceTable(bundle.model_prices, builtin() if priced else None)

    def of(self, rule: Rule, learner: str | None = None) -> int | Cost:
        """Return a rule's cost: a constant in micro-units, or how to read it.

        `learner` is the policy whose learned estimates a rule that asks for them uses; without one
        every estimate is the worst case.
        """
        config = rule.algorithm
        if isinstance(config, LlmBudget):
            return lambda context: llm_cost(config, context, learner)
        if config.cost.kind == "llm:tokens" and isinstance(config, CostBudget):
            return lambda context: min(sum(_tokens(config, context, learner)) * MICRO, MAX_COST)
        if config.cost.kind == "llm:usd" and isinstance(config, CostBudget):
            return self._dollars(rule, config, learner)
        return _plain(config.cost)

    def spend(self, rule: Rule) -> Cost:
        """Return the breaker's cost of a policy whose first rule this is: micro-units (§5.8)."""
        config = rule.algorithm
        if isinstance(config, LlmBudget):
            return lambda context: min(sum(_tokens(config, context)) * MICRO, MAX_COST)
        cost = self.of(rule)
        if isinstance(cost, int):
            return lambda _context: cost
        default = config.cost.default_cost

        def spent(context: Context) -> int:
            amount = cost(context)
            first = amount[0] if isinstance(amount, list) else amount
            return first if isinstance(first, int) else default

        return spent

    def _dollars(self, rule: Rule, config: CostBudget, learner: str | None) -> Cost:
        """Return the price of the estimate, with the rates that settlement will need."""
        prices = self._prices
        default = config.cost.default_cost
        refuse = rule.unknown_model == "reject"

        def dollars(context: Context) -> int | list[object] | str:
            llm = context.llm
            rates = prices.rates(llm.model, context.provider)
            if rates is None:
                return UNKNOWN_MODEL if refuse else default
            price = estimate_cost(rates, *_tokens(config, context, learner))
            return [min(price, MAX_COST), rates.to_wire()]

        return dollars


def learns(config: Algorithm) -> bool:
    """Return whether a rule reserves by what answers lately used."""
    llm = isinstance(config, LlmBudget) or config.cost.kind.startswith("llm:")
    return llm and getattr(config, "reservation", "") == "learned"


def llm_cost(config: LlmBudget, context: Context, learner: str | None = None) -> int | str:
    """Return the tokens to reserve, or why the request fails before any counter (§5.6, 1 and 2).

    Limits of one request are held against the worst case, whatever is then reserved.
    """
    prompt, completion = _tokens(config, context)
    if config.max_prompt_tokens is not None and prompt > config.max_prompt_tokens:
        return "prompt_tokens_exceeded"
    estimate = prompt + completion
    if config.max_tokens_per_request is not None and estimate > config.max_tokens_per_request:
        return "max_tokens_per_request_exceeded"
    return prompt + _expected(config, context, learner, completion)


def _expected(
    config: LlmBudget | CostBudget, context: Context, learner: str | None, worst: int
) -> int:
    """Return the completion tokens to reserve: the worst case, or less where a rule learns."""
    if learner is None or config.reservation != "learned":
        return worst
    learned = context.sources.learned.estimate(learner, model_tag(context.llm.model))
    return worst if learned is None else min(worst, learned)


def _tokens(
    config: LlmBudget | CostBudget, context: Context, learner: str | None = None
) -> tuple[int, int]:
    """Return the estimated prompt and completion tokens."""
    completion = context.llm.maximum or config.default_max_completion
    if isinstance(config, LlmBudget) and config.max_completion_tokens is not None:
        completion = min(completion, config.max_completion_tokens)
    prompt = context.prompt_tokens(config.estimator)
    return prompt, _expected(config, context, learner, completion)


def _plain(source: CostSource) -> int | Cost:
    if source.kind == "fixed":
        return source.fixed_cost
    default = source.default_cost
    if source.kind == "query":
        name = source.name
        return lambda context: positive_micro(context.query(name)) or default
    read = extractor(f"header:{source.name}")
    return lambda context: positive_micro(read(context)) or default


def _kind(rule: Rule) -> str:
    config = rule.algorithm
    return "" if isinstance(config, LlmBudget) else config.cost.kind
