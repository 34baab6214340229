"""Where a rule's cost comes from, as functions of the request (behaviour §5.5.1)."""

from daemon.engine.checks import Cost
from daemon.engine.context import Context
from protocol.amounts import positive_micro
from protocol.bundle import CostBudget, CostSource, LlmBudget, Rule


class CostCompiler:
    """Turns cost sources into functions; knows the bundle's prices and the estimators."""

    def of(self, rule: Rule) -> int | Cost:
        """Return a rule's cost: a constant in micro-units, or how to read it."""
        config = rule.algorithm
        if isinstance(config, LlmBudget):
            raise NotImplementedError
        return _plain(config.cost)

    def spend(self, rule: Rule) -> Cost:
        """Return the breaker's cost of a policy whose first rule this is (§5.8), micro-units."""
        cost = self.of(rule)
        if isinstance(cost, int):
            return lambda _context: cost
        return cost


def _plain(source: CostSource) -> int | Cost:
    if source.kind == "fixed":
        return source.fixed_cost
    default = source.default_cost
    if source.kind == "query":
        name = source.name

        def from_query(context: Context) -> int:
            return positive_micro(context.query(name)) or default

        return from_query
    header = source.name.encode()

    def from_header(context: Context) -> int:
        return positive_micro(context.header(header)) or default

    return from_header
