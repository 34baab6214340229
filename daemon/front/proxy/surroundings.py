"""What all exchanges of a front share."""

from collections.abc import Callable
from dataclasses import dataclass

from daemon.front.proxy.heads import RequestHeads
from daemon.front.proxy.route import ProxyConfig
from daemon.front.settler import Settler
from daemon.front.upstream_pool import Pools
from protocol.decision import Decision


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Settings, connections to upstreams, seconds an upstream may be silent, and the settler.

    `heads` writes the heads of requests, `plain_heads` of those whose answer is read. `truncated`
    hears of every stream that was cut, and at how many counted tokens. `max_usage` bounds the bytes
    of a whole answer that are kept to read its usage.
    """

    config: ProxyConfig
    heads: RequestHeads
    plain_heads: RequestHeads
    pools: Pools
    silence: float
    settler: Settler
    truncated: Callable[[Decision, int], None]
    max_usage: int
