"""The figures of all processes put into words, with what the supervisor adds (behaviour §15)."""

from collections.abc import Callable, Iterable
from collections.abc import Collection as Names

from daemon.engine.engine import active
from daemon.engine.record import switch_scope
from daemon.supervisor.collection import Collection
from daemon.supervisor.metrics import Totals, render
from daemon.supervisor.oversight import Oversight
from daemon.supervisor.reload import Reloader
from daemon.supervisor.reports import now_us
from daemon.supervisor.safeguards import Breaker
from daemon.version import package_version
from protocol.bundle import MICRO, Bundle


def add_build(totals: Totals) -> None:
    """Add what is true of the running program."""
    totals.set("build_info", 1, (package_version(),))


def add_bundle(totals: Totals, bundle: Bundle, secret: bytes, now: int) -> None:
    """Add what is true of the active bundle at `now` (microseconds since the epoch)."""
    totals.set("config_info", 1, (str(bundle.version), bundle.hash))
    totals.set("bundle_version", bundle.version)
    totals.set("global_shadow_active", active(bundle.global_shadow, now))
    totals.set("kill_switch_override_active", active(bundle.kill_switch_override, now))
    for switch in bundle.kill_switches:
        in_force = switch.expires_at is None or switch.expires_at * MICRO >= now
        totals.raise_to("kill_switch_active", in_force, (switch_scope(switch, secret),))
    for policy in bundle.policies:
        if policy.mode == "shadow":
            totals.set("shadow_mode_active", 1, (policy.id,))


def add_breakers(
    totals: Totals, breakers: Iterable[tuple[str, Breaker]], opened: Names[str]
) -> None:
    """Add a gauge per policy that has a breaker: 1 while any of them is open."""
    for identity, breaker in breakers:
        totals.raise_to("circuit_state", identity in opened, (breaker.policy_id,))


class Exposition:
    """Writes the metrics of one daemon. `secret` is the key of digests."""

    def __init__(
        self,
        collection: Collection,
        reloader: Reloader,
        oversight: Oversight,
        secret: Callable[[], bytes],
    ) -> None:
        self._collection = collection
        self._reloader = reloader
        self._oversight = oversight
        self._secret = secret

    def text(self) -> bytes:
        """Return what is known now."""
        totals = self._collection.totals()
        active = self._reloader.active
        add_build(totals)
        add_bundle(totals, active.loaded.bundle, self._secret(), now_us())
        self._oversight.add_figures(totals)
        add_breakers(totals, active.breakers.items(), self._collection.open_breakers())
        return render(totals)
