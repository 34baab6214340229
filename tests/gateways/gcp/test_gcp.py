"""The hook before a WSGI application, as behind Google's front end, with the real daemon (§20)."""

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from socket import create_connection
from threading import Thread

import pytest

from adapters.gcp import hook
from tests.e2e.conftest import Answer, Daemon, _starter, wait_for
from tests.end_with_us import KILLED
from tests.gateways import echo
from tests.gateways.bundles import ADDRESS_LIMIT, CONTRACT, DELAY_MS, TENANT_LIMIT, bearer
from tests.gateways.echo import Echo
from tests.gateways.site import Address as DaemonAddress
from tests.gateways.site import (
    Client,
    Serve,
    free_port,
    short_folder,
    start_daemon,
    write_configuration,
)
from tests.gateways.test_contract import limited, refused
from tests.gateways.test_failure_policy import unavailable

PATIENCE = 60.0
SERVICE = Path(__file__).with_name("service.py")

Ask = Callable[..., Answer]


@contextmanager
def service(
    daemon: Daemon, *, on_failure: str = "closed", timeout: int = 20_000, **settings: str
) -> Iterator[tuple[Ask, Echo, Path]]:
    """Run a service with the hook; requests come as Google's front end sends them on."""
    with short_folder() as folder, echo.running() as work:
        options = [f"--daemon=127.0.0.1:{daemon.port}", f"--timeout={timeout}"]
        write_configuration("gcp", [*options, f"--on-failure={on_failure}"], daemon, folder)
        text = (folder / "env.yaml").read_text()
        variables = dict(re.findall(r'^(FAIRVISOR_\w+): "(.*)"$', text, re.MULTILINE)) | settings
        environ = {k: v for k, v in os.environ.items() if not k.startswith("FAIRVISOR_")}
        port = free_port()
        target = work.url.removeprefix("http://")
        with (folder / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [*KILLED, sys.executable, str(SERVICE), str(folder), str(port), target],
                env=environ | variables,
                stdin=subprocess.DEVNULL,
                stderr=stderr,
            )

        def listens() -> bool:
            assert process.poll() is None, (folder / "stderr").read_text()
            with suppress(OSError), create_connection(("127.0.0.1", port), 1.0):
                return True
            return False

        def ask(  # noqa: PLR0913 - a request
            target: str,
            headers: dict[str, str] | None = None,
            method: str = "GET",
            body: bytes | None = None,
            source: str = "198.51.100.1",
            spoof: str = "",
        ) -> Answer:
            hops = f"{spoof}, {source}" if spoof else source
            with Client(port) as client:
                return client.ask(
                    target, {"X-Forwarded-For": hops, **(headers or {})}, method, body
                )

        try:
            wait_for(listens, PATIENCE, "the service listens")
            yield ask, work, folder / "stderr"
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(name="running", scope="module")
def _running() -> Iterator[tuple[Ask, Echo]]:
    with ExitStack() as stack:
        daemon = _starter(stack)(CONTRACT, trusted_proxies="127.0.0.1/32")
        ask, work, _ = stack.enter_context(service(daemon))
        yield ask, work


@pytest.mark.parametrize("target", ["/any/item?b=2&a=%2F&a=&q=a+b", "/any//x/%2e%2e/%C3%A4;p=1?"])
def test_an_allowed_request_reaches_the_service_as_it_was_sent(
    running: tuple[Ask, Echo], a_key: str, target: str
) -> None:
    ask, _ = running
    answer = ask(target, {"X-Key": a_key}, "POST", b"\x00\xff")
    echoed = json.loads(answer.body)
    assert (echoed["method"], echoed["target"]) == ("POST", target)
    assert base64.b64decode(echoed["body"]) == b"\x00\xff"
    assert answer.headers["ratelimit-limit"] == "1000000"  # not the app's own


def test_a_refusal_reaches_the_client_whole_and_the_service_not_at_all(
    running: tuple[Ask, Echo], a_key: str
) -> None:
    ask, work = running
    path = f"/few/{a_key}"
    answers = [ask(path, {"X-Key": a_key}) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    limited(answers[2], 429, 2, "few")
    assert len(work.at(path)) == 2
    assert ask("/busy/x", {"X-Key": a_key}).status == 200
    limited(ask("/busy/x", {"X-Key": a_key}), 503, 1, "busy")


def test_a_kill_switch_holds_for_every_spelling(running: tuple[Ask, Echo]) -> None:
    ask, _ = running
    for target in ("/any/item", "/any/item?x=1", "/any/%69tem?a=b"):
        refused(ask(target, {"X-Key": "banned"}), 429, "kill_switch_active")


def test_the_client_is_who_googles_front_end_saw(running: tuple[Ask, Echo]) -> None:
    ask, _ = running
    statuses = [
        ask("/addresses/x", spoof=f"6.6.6.{n}", source="203.0.113.50").status
        for n in range(ADDRESS_LIMIT + 1)
    ]
    assert statuses == [200] * ADDRESS_LIMIT + [429]
    assert ask("/addresses/x", source="203.0.113.51").status == 200


@pytest.mark.parametrize(
    "spoof",
    [
        {"X-Original-URI": "/elsewhere", "X-Original-Method": "OPTIONS"},
        {"X_Original_URI": "/elsewhere", "X-Forwarded_Uri": "/elsewhere"},
    ],
)
def test_a_client_cannot_say_what_it_asks_for(
    running: tuple[Ask, Echo], a_key: str, spoof: dict[str, str]
) -> None:
    ask, _ = running
    assert [ask("/few/x", {"X-Key": a_key, **spoof}).status for _ in range(3)] == [200, 200, 429]


def test_the_clients_token_counts_also_where_espv2_has_moved_it(
    running: tuple[Ask, Echo], a_key: str
) -> None:
    ask, _ = running
    assert ask("/tenants/x", {"Authorization": bearer(tenant=a_key)}).status == 200
    moved = {"Authorization": "Bearer espv2", "X-Forwarded-Authorization": bearer(tenant=a_key)}
    answer = ask("/tenants/x", moved)
    assert (answer.status, answer.headers["ratelimit-remaining"]) == (200, str(TENANT_LIMIT - 2))
    refused(ask("/tenants/x", {"Authorization": "Bearer espv2"}), 429, "descriptor_missing")


def test_limits_are_exact_over_parallel_clients(running: tuple[Ask, Echo], a_key: str) -> None:
    ask, work = running
    token = {"Authorization": bearer(tenant=a_key)}
    found: list[int] = []

    def load() -> None:
        found.extend(ask(f"/tenants/{a_key}", token).status for _ in range(TENANT_LIMIT // 4))

    threads = [Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found.count(200) == TENANT_LIMIT == len(work.at(f"/tenants/{a_key}"))
    assert len(found) > TENANT_LIMIT


def test_a_throttled_request_is_held_back(running: tuple[Ask, Echo], a_key: str) -> None:
    ask, _ = running
    assert ask("/throttled/x", {"X-Key": a_key}).status == 200
    started = time.monotonic()
    answer = ask("/throttled/x", {"X-Key": a_key})
    assert time.monotonic() - started >= DELAY_MS / 1000 * 0.95
    assert answer.headers["x-fairvisor-warning"] == "budget_throttle"


def test_what_the_daemon_cannot_read_is_refused(running: tuple[Ask, Echo], a_key: str) -> None:
    ask, work = running
    path = f"/any/{a_key}"
    many = {f"X-Filler-{number}": "x" * 400 for number in range(90)}
    assert ask(path, many).status == 431
    assert work.at(path) == []


@pytest.mark.parametrize("policy", ["closed", "open", "reads-open"])
def test_a_stopped_daemon_and_its_return(serve: Serve, policy: str, a_key: str) -> None:
    with short_folder() as folder:
        address = DaemonAddress.fresh(folder)
        daemon = start_daemon(serve, CONTRACT, address)
        with service(daemon, on_failure=policy) as (ask, _, stderr):
            assert ask("/few/x", {"X-Key": a_key}).status == 200
            assert daemon.stop() == 0
            for method in ("GET", "POST"):
                answer = ask("/few/x", {"X-Key": a_key}, method)
                if policy == "open" or (policy == "reads-open" and method == "GET"):
                    assert answer.status == 200
                else:
                    unavailable(answer)
            start_daemon(serve, CONTRACT, address)
            assert [ask("/few/y", {"X-Key": a_key}).status for _ in range(3)] == [200, 200, 429]
            assert "Fairvisor did not decide" in stderr.read_text()


@pytest.mark.parametrize(
    ("hops", "listed", "client"),
    [
        ("1", "203.0.113.9", "203.0.113.9"),
        ("1", "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("2", "6.6.6.6,203.0.113.9, 35.1.1.1", "203.0.113.9"),
        ("2", "203.0.113.9", "169.254.1.1"),
        ("1", "", "169.254.1.1"),
        ("0", "6.6.6.6", "169.254.1.1"),
    ],
)
def test_hops_are_counted_from_the_end(
    monkeypatch: pytest.MonkeyPatch, hops: str, listed: str, client: str
) -> None:
    monkeypatch.setenv("FAIRVISOR_PROXY_HOPS", hops)
    environ = {"HTTP_X_FORWARDED_FOR": listed, "REMOTE_ADDR": "169.254.1.1"}
    assert hook.client_address(environ) == client


def test_without_a_raw_target_it_is_put_together_again() -> None:
    environ = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "/a", "PATH_INFO": "/b \xc3\xa4?",
        "QUERY_STRING": "x=1",
    }  # fmt: skip
    assert hook.question_headers(environ)["x-original-uri"] == "/a/b%20%C3%A4%3F?x=1"
