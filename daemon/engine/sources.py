"""What the engine knows beyond bundle and request: functions and tables handed in by the edge."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from daemon.engine.client_address import TrustedProxies

Country = Callable[[str], str | None]


def no_country(_address: str) -> str | None:
    """Stand for an absent country database."""
    return None


@dataclass(frozen=True, slots=True)
class Sources:
    """The engine's surroundings on this host.

    `jitter_key` keys the Retry-After spread and the display of credentials; `draw_id` returns 16
    unguessable bytes for a reservation; `jwks` maps the bundle's `jwks_file` names to their bytes;
    `tor_exits` is None without a list; `llm_format` is `FAIRVISOR_LLM_FORMAT` or "".
    """

    draw_id: Callable[[], bytes]
    shards: int = 1
    trusted: TrustedProxies = field(default_factory=TrustedProxies.loopback)
    jitter_key: bytes = b""
    jwks: Mapping[str, bytes] = field(default_factory=dict)
    country: Country = no_country
    tor_exits: frozenset[str] | None = None
    llm_format: str = ""
