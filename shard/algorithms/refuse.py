"""The limiter that always refuses: where the engine already knows that a request fails."""

from dataclasses import dataclass

from protocol.operations import Verdict
from shard.algorithms.limiter import Params


@dataclass(frozen=True, slots=True)
class RefuseLimiter:
    """Refuse with retry 1 and keep nothing."""

    @classmethod
    def build(cls, params: Params) -> "RefuseLimiter":
        """Build from nothing."""
        return cls()

    def charge(self, state: None, cost: int, now: int) -> tuple[None, Verdict]:
        """Refuse."""
        return None, -1

    def undo(self, state: None, cost: int, charged_at: int, now: int) -> None:
        """Keep nothing."""

    def retract(self, state: None, cost: int, charged_at: int, now: int, verdict: Verdict) -> None:
        """Keep nothing."""

    def settle(self, state: None, reserved: int, actual: int, charged_at: int, now: int) -> None:
        """Keep nothing."""

    def idle_at(self, state: None) -> int:
        """Return the beginning of time: there is never anything to keep."""
        return 0
