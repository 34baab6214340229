"""What is HAProxy's own: a request goes on after an error in Lua, unless the action sees to it."""

from tests.gateways.bundles import CONTRACT
from tests.gateways.gateways import SUBJECTS
from tests.gateways.site import UNHURRIED_MS, Serve, site
from tests.gateways.test_failure_policy import unavailable

(HAPROXY,) = (subject for subject in SUBJECTS if subject.name == "haproxy")


def spoiled(config: str) -> str:
    """Return the configuration with a timeout that Lua cannot reckon with."""
    right = f"{UNHURRIED_MS} closed"
    assert right in config
    return config.replace(right, "soon closed")


def test_an_error_in_lua_is_no_way_past_the_check(serve: Serve, a_key: str) -> None:
    with site(HAPROXY, "unix", serve, CONTRACT, edit=spoiled) as running:
        unavailable(running.ask("/any/x", {"X-Key": a_key}))
        assert running.service.seen == []
