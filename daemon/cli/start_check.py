"""What `fairvisor serve --check` looks at beyond settings and bundle, and what it says."""

from dataclasses import dataclass

from daemon.settings import Settings
from daemon.supervisor.admin.listener import examine
from daemon.supervisor.estate import ENVOY_LISTEN
from daemon.supervisor.examination import examine_address, examine_state
from daemon.supervisor.parts import check_parts
from protocol.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Found:
    """Where a daemon would listen, in words, and what it would warn of."""

    places: list[str]
    warning: str


def check_start(settings: Settings, *, inherited: bool) -> Found:
    """Look whether the daemon's parts and places could be had, without taking them.

    `inherited`: the program before this one hands its listeners over.

    Raises:
        ListenError, StateError: something cannot be had; one line that says why.
    """
    check_parts(settings.state_dir)
    if settings.state_dir is not None:
        examine_state(settings.state_dir)
    asked = [("FAIRVISOR_LISTEN", each) for each in settings.listen]
    if settings.envoy_listen is not None:
        asked.append((ENVOY_LISTEN, settings.envoy_listen))
    places = []
    for variable, address in asked:
        in_use = not inherited and examine_address(address, variable)
        places.append(f"{address}{' (in use now)' if in_use else ''}")
    _, warning = examine(settings.admin_socket)
    return Found(places, warning)


def would_start(settings: Settings, bundle: Bundle, found: Found) -> str:
    """Return the line that says what would start."""
    kept = "in memory only" if settings.state_dir is None else f"in {settings.state_dir}"
    return (
        f"ok: would serve bundle version {bundle.version} in mode {settings.mode}"
        f" at {', '.join(found.places)}, with counters {kept}"
    )
