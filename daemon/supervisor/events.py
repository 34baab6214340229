"""What happens to the daemon as a whole, as events beside the decision records (behaviour §19)."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from daemon.engine.engine import active
from daemon.engine.record import Record, timestamp
from protocol.bundle import MICRO, Bundle, Override, Problem

MAX_PROBLEMS = 16
_OVERRIDES: Mapping[str, Callable[[Bundle], Override | None]] = {
    "global_shadow": lambda bundle: bundle.global_shadow,
    "kill_switch_override": lambda bundle: bundle.kill_switch_override,
}


def bundle_applied(bundle: Bundle, now: int) -> Record:
    """Return the event of a new bundle that all processes have switched to."""
    return _event("bundle_applied", bundle, now) | {"policies": len(bundle.policies)}


def bundle_rejected(bundle: Bundle, problems: Sequence[Problem], now: int) -> Record:
    """Return the event of a bundle that is not taken; `bundle` is the one that keeps serving."""
    errors = [{"path": each.path, "message": each.message} for each in problems[:MAX_PROBLEMS]]
    return _event("bundle_rejected", bundle, now) | {"errors": errors}


def breaker_reset(
    bundle: Bundle, now: int, *, policy_id: str, scope: str | None, closed: int
) -> Record:
    """Return the event of a reset by hand; `scope` as it may be shown, None for all."""
    event = _event("circuit_breaker_reset", bundle, now)
    return event | {"policy_id": policy_id, "scope": scope, "reset": closed}


class Overrides:
    """Notices when override blocks (§2.2) begin and end to be in force."""

    def __init__(self) -> None:
        self._known: dict[str, Override] = {}

    def look(self, bundle: Bundle, now: int) -> list[Record]:
        """Return the events since the last look; `now` in microseconds since the epoch."""
        return list(self._events(bundle, now))

    def _events(self, bundle: Bundle, now: int) -> Iterator[Record]:
        for name, block_of in _OVERRIDES.items():
            block = block_of(bundle)
            found = block if active(block, now) else None
            known = self._known.get(name)
            if found == known:
                continue
            if found is not None:
                self._known[name] = found
                yield _override("override_active", name, found, bundle, now)
            elif known is not None:
                del self._known[name]
                cause = "expired" if known.expires_at * MICRO <= now else "removed"
                yield _override("override_ended", name, known, bundle, now) | {"cause": cause}

    def next_end(self) -> float | None:
        """Return when the next block in force ends by itself, in seconds since the epoch."""
        return min((each.expires_at for each in self._known.values()), default=None)


def _override(event: str, name: str, block: Override, bundle: Bundle, now: int) -> Record:
    return _event(event, bundle, now) | {
        "override": name,
        "override_reason": block.reason,
        "expires_at": timestamp(block.expires_at * MICRO),
    }


def _event(name: str, bundle: Bundle, now: int) -> Record:
    return {
        "time": timestamp(now),
        "event": name,
        "bundle_version": bundle.version,
        "bundle_hash": bundle.hash,
    }
