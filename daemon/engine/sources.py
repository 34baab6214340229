"""What the engine knows beyond bundle and request: functions and tables handed in by the edge."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

from daemon.engine.bots import BotTable
from daemon.engine.client_address import DEFAULT_TRUSTED_PROXIES, TrustedProxies
from daemon.engine.crawler_list import public_list
from daemon.engine.learned import LearnedCompletions
from daemon.engine.limit_keys import LimitKeys
from daemon.llm.builtin_prices import BuiltinPrices


@cache
def known_bots() -> BotTable:
    """Return the table of bots, made once per process."""
    return BotTable(public_list())


def no_prices() -> BuiltinPrices:
    """Stand for the built-in price table where no request will be priced."""
    return BuiltinPrices({})


@dataclass(frozen=True, slots=True)
class Sources:
    """The engine's surroundings on this host.

    `jitter_key` keys the Retry-After spread and the display of credentials; `draw_id` returns 16
    unguessable bytes for a reservation; `jwks` maps the bundle's `jwks_file` names to their bytes;
    `prices` gives the built-in price table when a bundle needs it; `country` looks an address up;
    it and `tor_exits` are None without their files; `llm_format` is `FAIRVISOR_LLM_FORMAT` or "";
    `proxies` says whether requests come in whole (§7.4); `learned` is what this process knows of
    answers, for rules that reserve by it; `keys` names counters.
    """

    draw_id: Callable[[], bytes]
    shards: int = 1
    trusted: TrustedProxies = field(
        default_factory=lambda: TrustedProxies.parse(DEFAULT_TRUSTED_PROXIES)
    )
    jitter_key: bytes = b""
    jwks: Mapping[str, bytes] = field(default_factory=dict)
    country: Callable[[str], str | None] | None = None
    tor_exits: frozenset[str] | None = None
    bots: BotTable = field(default_factory=known_bots)
    prices: Callable[[], BuiltinPrices] = no_prices
    llm_format: str = ""
    proxies: bool = False
    learned: LearnedCompletions = field(default_factory=LearnedCompletions)
    keys: LimitKeys = field(default_factory=LimitKeys)
