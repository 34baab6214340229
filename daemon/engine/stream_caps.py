"""What an admitted LLM request may stream (behaviour §11.3), for the proxy that watches it."""

from collections.abc import Callable

import msgspec

from daemon.engine.evaluation import Evaluation
from daemon.llm.cut import Cut, cut_of
from daemon.llm.meter import quarter_bytes
from daemon.llm.tokens import counter
from protocol.bundle import LlmBudget


class StreamCaps(msgspec.Struct, frozen=True):
    """The caps of the enforcing and the shadow rules, the prompt estimate, and how to count."""

    cut: Cut | None
    shadow: Cut | None
    prompt: int
    count: Callable[[str], int]


def stream_caps(evaluation: Evaluation) -> StreamCaps:
    """Return the caps of the LLM rules that took part in a request."""
    enforcing: list[LlmBudget] = []
    shadow: list[LlmBudget] = []
    for check in evaluation.checks:
        config = check.rule.algorithm if check.rule is not None else None
        if isinstance(config, LlmBudget):
            (shadow if check.shadow else enforcing).append(config)
    context = evaluation.context
    rules = enforcing or shadow
    exact = any(rule.estimator == "tokenizer" for rule in rules)
    return StreamCaps(
        cut_of(enforcing),
        cut_of(shadow),
        context.prompt_tokens(rules[0].estimator if rules else "simple_word"),
        counter(context.llm.model) if exact else quarter_bytes,
    )
