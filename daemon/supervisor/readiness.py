"""Whether this daemon should be sent requests: what `/readyz` says beside its own (§9.2). Pure.

Rules
- A shard that is away for a moment (killed, replaced, restored) changes nothing: taking an instance
  out of rotation and putting it back costs more than that. One that is away for longer, or comes
  and goes, does: its rules are decided by `on_error`, and another instance would do better.
- Fronts that are away are told by their silence; one that answers although all keep ending says so.
- It is advice for whoever has another instance. Requests that come all the same are decided.
"""

from collections.abc import Collection
from dataclasses import dataclass

GRACE_SECONDS = 5.0
READY = ""
SHARD_UNAVAILABLE = "shard_unavailable"
FRONT_FAILING = "front_failing"


@dataclass(frozen=True, slots=True)
class Standing:
    """How one child is: seconds that it has been away, 0 if it serves, and whether it loops."""

    away: float
    looping: bool


def reason(shards: Collection[Standing], fronts: Collection[Standing]) -> str:
    """Return why the daemon is not ready, `READY` if it is."""
    if any(each.looping or each.away > GRACE_SECONDS for each in shards):
        return SHARD_UNAVAILABLE
    if fronts and all(each.looping for each in fronts):
        return FRONT_FAILING
    return READY
