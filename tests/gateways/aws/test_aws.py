"""Both Lambda authorizers with the events that API Gateway sends, before the real daemon (§20)."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.e2e.conftest import Daemon, _starter
from tests.gateways.aws.lambda_runtime import (
    EVENTS,
    LANGUAGES,
    REST_ARN,
    Event,
    Invoke,
    allowed,
    context,
    function,
    http,
    rest,
)
from tests.gateways.bundles import ADDRESS_LIMIT, CONTRACT, DELAY_MS, TENANT_LIMIT, bearer
from tests.gateways.site import Serve, short_folder, write_configuration

UNHURRIED = "20000"


@pytest.fixture(name="running", scope="module")
def _running() -> Iterator[tuple[Daemon, Path]]:
    with ExitStack() as stack:
        daemon = _starter(stack)(CONTRACT, trusted_proxies="127.0.0.1/32")
        folder = stack.enter_context(short_folder())
        write(daemon, folder)
        yield daemon, folder


def write(daemon: Daemon, folder: Path, on_failure: str = "closed") -> None:
    options = [f"--daemon=http://127.0.0.1:{daemon.port}", f"--timeout={UNHURRIED}"]
    write_configuration("aws", [*options, f"--on-failure={on_failure}"], daemon, folder)


@pytest.fixture(name="invoke", scope="module", params=LANGUAGES)
def _invoke(request: pytest.FixtureRequest, running: tuple[Daemon, Path]) -> Iterator[Invoke]:
    with function(request.param, running[1]) as invoke:
        yield invoke


@pytest.fixture(name="event", params=sorted(EVENTS))
def _event(request: pytest.FixtureRequest) -> Callable[..., Event]:
    return EVENTS[request.param]


@pytest.fixture(name="key")
def _key(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def test_an_allowed_request_passes_with_its_limits(
    invoke: Invoke, event: Callable[..., Event], key: str
) -> None:
    answer = invoke(event("/few/x", {"X-Key": key}))
    assert allowed(answer)
    assert context(answer) == {
        "ratelimit_limit": "2", "ratelimit_remaining": "1", "ratelimit_reset": "1",
    }  # fmt: skip


def test_a_refusal_says_why_and_when_to_come_back(
    invoke: Invoke, event: Callable[..., Event], key: str
) -> None:
    answers = [invoke(event("/few/x", {"X-Key": key}, "POST")) for _ in range(3)]
    assert [allowed(answer) for answer in answers] == [True, True, False]
    found = context(answers[2])
    assert found["fairvisor_reason"] == "rate_limit_exceeded"
    assert int(found["retry_after"]) >= 1
    assert found["ratelimit_remaining"] == "0"


@pytest.mark.parametrize("query", [None, {"x": ["1"]}, {"x": ["1", "2"], "y": [""]}])
def test_a_kill_switch_holds_with_every_query(
    invoke: Invoke, event: Callable[..., Event], query: dict[str, list[str]] | None
) -> None:
    answer = invoke(event("/any/item", {"X-Key": "banned"}, query=query))
    assert not allowed(answer)
    assert context(answer)["fairvisor_reason"] == "kill_switch_active"


def test_the_daemon_hears_method_host_query_and_address(
    invoke: Invoke, event: Callable[..., Event], key: str
) -> None:
    headers = {"X-Key": key}
    assert [allowed(invoke(event("/writes/x", headers))) for _ in range(2)] == [True, True]
    posts = [allowed(invoke(event("/writes/x", headers, "POST"))) for _ in range(2)]
    assert posts == [True, False]
    assert [allowed(invoke(event("/hosts/x", headers))) for _ in range(2)] == [True, False]
    query = {"user": [f"{key}-a"], "other": ["1"]}
    assert [allowed(invoke(event("/queries/x", query=query))) for _ in range(2)] == [True, False]
    octets = (int(each) for each in key.encode()[-2:])
    address = ".".join(map(str, (203, len(key), *octets)))
    spoof = {"X-Forwarded-For": "6.6.6.6", "X_Forwarded_For": "7.7.7.7", "Forwarded": "for=8.8.8.8"}
    found = [
        allowed(invoke(event("/addresses/x", spoof, source=address)))
        for _ in range(ADDRESS_LIMIT + 1)
    ]
    assert found == [True] * ADDRESS_LIMIT + [False]


@pytest.mark.parametrize(
    "spoof",
    [
        {"X-Original-URI": "/elsewhere", "X-Original-Method": "OPTIONS"},
        {"X_Original_URI": "/elsewhere", "x-forwarded_uri": "/elsewhere"},
        {"X-Forwarded-Host": "elsewhere.test", "X-Token-Estimate": "0"},
    ],
)
def test_a_client_cannot_say_what_it_asks_for(
    invoke: Invoke, event: Callable[..., Event], key: str, spoof: dict[str, str]
) -> None:
    found = [allowed(invoke(event("/few/x", {"X-Key": key, **spoof}))) for _ in range(3)]
    assert found == [True, True, False]


def test_tokens_and_odd_headers(invoke: Invoke, event: Callable[..., Event], key: str) -> None:
    token = bearer(tenant=key)
    assert allowed(invoke(event("/tenants/x", {"Authorization": token})))
    refused = invoke(event("/tenants/x", {}))
    assert context(refused)["fairvisor_reason"] == "descriptor_missing"
    assert allowed(invoke(event("/any/x", {"X-Key": key, "X-Name": "Zoë ☃"})))
    assert not allowed(invoke(event("/any/x", {"X-Key": key, "X-Name": "a\r\nX-Key: b"})))


def test_a_stage_is_no_part_of_the_path(invoke: Invoke, key: str) -> None:
    found = [allowed(invoke(http("/few/x", {"X-Key": key}, stage="prod"))) for _ in range(3)]
    assert found == [True, True, False]


def test_a_throttled_request_waits(invoke: Invoke, event: Callable[..., Event], key: str) -> None:
    assert allowed(invoke(event("/throttled/x", {"X-Key": key})))
    started = time.monotonic()
    assert allowed(invoke(event("/throttled/x", {"X-Key": key})))
    assert time.monotonic() - started >= DELAY_MS / 1000 * 0.95


def test_another_type_of_authorizer_is_a_mistake(invoke: Invoke) -> None:
    answer = invoke({"type": "TOKEN", "methodArn": REST_ARN, "authorizationToken": "x"})
    assert "must be REQUEST" in answer["error"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_http_api_may_have_policies_too(running: tuple[Daemon, Path], language: str) -> None:
    with function(language, running[1], FAIRVISOR_RESPONSE="iam") as invoke:
        answer = invoke(http("/any/item", {"X-Key": "banned"}))
        assert "policyDocument" in answer["result"]
        assert not allowed(answer)


@pytest.mark.parametrize("language", LANGUAGES)
def test_limits_are_exact_over_parallel_functions(
    running: tuple[Daemon, Path], language: str
) -> None:
    token = {"Authorization": bearer(tenant=f"parallel-{language}")}
    with ExitStack() as stack:
        functions = [stack.enter_context(function(language, running[1])) for _ in range(4)]

        def load(invoke: Invoke) -> int:
            return sum(allowed(invoke(rest("/tenants/x", token))) for _ in range(TENANT_LIMIT))

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(load, functions)) == TENANT_LIMIT


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("policy", ["closed", "open", "reads-open"])
def test_while_the_daemon_is_away(serve: Serve, language: str, policy: str) -> None:
    daemon = serve(CONTRACT)
    with short_folder() as folder:
        write(daemon, folder, policy)
        with function(language, folder) as invoke:
            assert allowed(invoke(rest("/any/x", {"X-Key": "a"})))
            assert daemon.stop() == 0
            for event in EVENTS.values():
                for method, reads in (("GET", True), ("POST", False)):
                    answer = invoke(event("/any/x", {"X-Key": "a"}, method))
                    passes = policy == "open" or (policy == "reads-open" and reads)
                    assert allowed(answer) is passes
                    if not passes:
                        assert context(answer) == {
                            "fairvisor_reason": "service_unavailable", "retry_after": "1",
                        }  # fmt: skip
        assert "Fairvisor did not decide" in (folder / "stderr").read_text()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_daemon_that_refuses_without_words_has_the_documented_defaults(language: str) -> None:
    with short_folder() as folder, mute_daemon(429) as port:
        (folder / "template.yaml").write_text(f'  FAIRVISOR_URL: "http://127.0.0.1:{port}"\n')
        suffix = "mjs" if language == "node" else "py"
        source = Path(__file__).parents[3] / f"adapters/aws/authorizer.{suffix}"
        (folder / source.name).write_text(source.read_text())
        with function(language, folder) as invoke:
            answer = invoke(rest())
            assert not allowed(answer)
            assert context(answer) == {"fairvisor_reason": "rate_limited", "retry_after": "1"}


@contextmanager
def mute_daemon(status: int) -> Iterator[int]:
    """Serve one status and no more words."""

    class Mute(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Mute)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_template_maps_what_the_functions_say() -> None:
    text = (Path(__file__).parents[3] / "adapters/aws/template.yaml").read_text()
    named = set(re.findall(r"context\.authorizer\.(\w+)", text))
    limits = {"ratelimit_limit", "ratelimit_remaining", "ratelimit_reset"}
    assert named == {"fairvisor_reason", "retry_after", *limits}
    assert 'ResponseType: ACCESS_DENIED\n      StatusCode: "429"' in text
    assert text.count("AuthorizerResultTtlInSeconds: 0\n") == 2
