"""The Worker in workerd, Cloudflare's own runtime, before the real daemon (behaviour §20)."""

import base64
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from adapters import catalogue
from tests.e2e.conftest import _starter, wait_for
from tests.gateways.bundles import CONTRACT, TOKENS_REQUIRED
from tests.gateways.gateways import Subject, executable
from tests.gateways.node.packages import workerd
from tests.gateways.site import Address, Serve, Site, short_folder, site, start_daemon

# Held to the contract of all gateways; these run here with this module's `contract_site`.
from tests.gateways.test_contract import (  # noqa: F401 - tests
    test_a_client_cannot_say_what_it_asks_for,
    test_a_client_cannot_say_where_it_is,
    test_a_forged_token_is_nobodys,
    test_a_kill_switch_holds_for_every_spelling,
    test_a_large_and_a_chunked_body_arrive_whole,
    test_a_refusal_reaches_the_client_whole_and_the_service_not_at_all,
    test_a_rule_that_refuses_with_503_does_so_for_the_client,
    test_a_throttled_request_is_held_back_and_then_passes,
    test_head_is_allowed_and_refused_without_a_body,
    test_limits_per_tenant_are_exact_over_parallel_clients,
    test_the_client_is_who_connects_whatever_it_says,
    test_the_daemon_hears_method_host_and_query,
    test_what_the_daemon_cannot_read_is_refused,
)
from tests.gateways.test_failure_policy import (
    PATIENCE,
    ask_decided,
    ask_undecided,
    decides,
    hanging,
)

EDGE = Path(__file__).with_name("edge.py")


def command(config: Path) -> list[str]:
    nginx = executable("nginx", "Debian: apt-get install nginx")
    return [sys.executable, str(EDGE), str(config.parent), str(workerd()), nginx]


def _subject() -> Subject:
    found = catalogue.find("cloudflare")
    assert found is not None
    return Subject(found, command)


SUBJECT = _subject()


@pytest.fixture(name="contract_site", scope="module")
def _contract_site() -> Iterator[Site]:
    with ExitStack() as stack:
        yield stack.enter_context(site(SUBJECT, "tcp", _starter(stack), CONTRACT))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_an_allowed_request_arrives_as_it_was_sent(
    contract_site: Site, a_key: str, method: str
) -> None:
    body = None if method in {"GET", "OPTIONS"} else b"\x00\xff body of " + a_key.encode()
    headers = {"X-Key": a_key, "X-Own": "kept", "Content-Type": "application/octet-stream"}
    target = "/any/item?b=2&a=%2F&a=&q=a+b"
    answer = contract_site.ask(target, headers, method, body)
    assert answer.status == 200
    echoed = json.loads(answer.body)
    assert (echoed["method"], echoed["target"]) == (method, target)
    assert base64.b64decode(echoed["body"]) == (body or b"")
    assert echoed["headers"]["x-own"] == "kept"
    assert answer.headers["ratelimit-limit"] == "1000000"


def test_a_path_is_decided_and_forwarded_in_the_same_normal_form(contract_site: Site) -> None:
    answer = contract_site.ask("/few/./x/../../any/item?x=1", {"X-Key": "banned"})
    assert answer.headers.get("x-fairvisor-reason") == "kill_switch_active", answer.body
    # Half of it in percent signs: whatever the runtime makes of that, the daemon is told the same.
    answer = contract_site.ask("/few/x/%2e%2e/../y", {"X-Key": "folded"})
    target = json.loads(answer.body)["target"]
    assert answer.headers["ratelimit-policy"].startswith(f'"{target.split("/")[1]}";'), target


def test_a_missing_token_is_401(serve: Serve) -> None:
    with site(SUBJECT, "tcp", serve, TOKENS_REQUIRED) as running:
        answer = running.ask("/any/x", {"X-Key": "a"})
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("policy", SUBJECT.gateway.on_failure)
def test_a_stopped_daemon_and_its_return(serve: Serve, policy: str, a_key: str) -> None:
    with short_folder() as folder:
        address = Address.fresh(folder)
        with site(SUBJECT, "tcp", serve, CONTRACT, on_failure=policy, address=address) as running:
            ask_decided(running, f"{a_key}-before")
            assert running.daemon.stop() == 0
            ask_undecided(running, policy, f"{a_key}-down")
            start_daemon(serve, CONTRACT, address)
            wait_for(lambda: decides(running, a_key), PATIENCE, "decisions again")
            ask_decided(running, f"{a_key}-after")
            assert "Fairvisor did not decide" in running.said()


def test_a_daemon_that_hangs_is_waited_for_only_so_long(serve: Serve, a_key: str) -> None:
    with site(SUBJECT, "tcp", serve, CONTRACT, timeout_ms=300) as running:
        wait_for(lambda: decides(running, a_key), PATIENCE, "a first decision")
        with hanging(running):
            started = time.monotonic()
            ask_undecided(running, "closed", f"{a_key}-hung")
            assert time.monotonic() - started < 15
        wait_for(lambda: decides(running, a_key), PATIENCE, "decisions again")
