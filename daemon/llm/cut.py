"""When a stream is cut (behaviour §11.3).

Checks stand at every multiple of `buffer_tokens`. An event that takes the count to or past the next
check is tested: above the cap it crosses, otherwise the next check is the first multiple above the
count. Between checks an overrun goes unnoticed.
"""

from collections.abc import Iterable

import msgspec

from protocol.bundle import LlmBudget, Streaming


class Cut(msgspec.Struct, frozen=True):
    """A cap on counted completion tokens, and how the stream is closed above it."""

    cap: int
    streaming: Streaming


def cut_of(budgets: Iterable[LlmBudget]) -> Cut | None:
    """Return the cut of the smallest cap among these rules; None if none of them wants one."""
    cuts = [
        Cut(budget.max_completion_tokens, budget.streaming)
        for budget in budgets
        if budget.max_completion_tokens is not None
        and budget.streaming.enabled
        and budget.streaming.enforce_mid_stream
    ]
    return min(cuts, key=lambda cut: cut.cap, default=None)


class Gate:
    """Applies one cut to a growing count. Below `due` there is nothing to test."""

    __slots__ = ("_cap", "_step", "due")

    def __init__(self, cut: Cut) -> None:
        self._cap = cut.cap
        self._step = self.due = cut.streaming.buffer_tokens

    def crossed(self, counted: int) -> bool:
        """Tell whether the event that made the count `counted` must not pass."""
        if counted < self.due:
            return False
        self.due = counted - counted % self._step + self._step
        return counted > self._cap
