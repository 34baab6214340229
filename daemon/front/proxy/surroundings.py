"""What all exchanges of a front share."""

from dataclasses import dataclass

from daemon.front.links import Link
from daemon.front.proxy.route import ProxyConfig
from daemon.front.upstream_pool import Pools


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Settings, connections to upstreams, seconds an upstream may be silent, links to shards."""

    config: ProxyConfig
    pools: Pools
    silence: float
    links: list[Link]
