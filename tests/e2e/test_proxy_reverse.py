"""The reverse proxy through the real daemon: bytes, heads, streams, and every way to fail (§10)."""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.upstreams.llm import Upstream

CANARY = "sk-canary-5bd1"
Serve = Callable[..., Any]


@pytest.fixture(name="upstream")
def _upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def llm_bundle(tpm: int = 1000, **config: object) -> dict[str, Any]:
    algorithm = {"tokens_per_minute": tpm, "default_max_completion": 100, **config}
    rule = {
        "name": "tokens",
        "limit_keys": ["ip:address"],
        "algorithm": "token_bucket_llm",
        "algorithm_config": algorithm,
    }
    spec = {"selector": {"pathPrefix": "/"}, "rules": [rule]}
    return {"bundle_version": 1, "policies": [{"id": "llm", "spec": spec}]}


def client(daemon: Any) -> http.client.HTTPConnection:  # noqa: ANN401 - the fixture's
    return http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=20)


def chat(tokens: int = 5, mode: str = "", **body: object) -> dict[str, Any]:
    """Return http.client's arguments of one chat request that reserves 100 + 1 tokens."""
    document = {"model": "m", "messages": [{"role": "user", "content": "abcd"}], **body}
    headers = {"X-Mode": mode, "X-Tokens": str(tokens), "Content-Type": "application/json"}
    return {
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": json.dumps(document),
        "headers": headers,
    }


def ask(daemon: Any, **arguments: Any) -> tuple[http.client.HTTPResponse, bytes]:  # noqa: ANN401
    connection = client(daemon)
    try:
        connection.request(**arguments)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def consumed(daemon: Any) -> float:  # noqa: ANN401
    _, text = ask(daemon, method="GET", url="/metrics")
    lines = [line for line in text.decode().splitlines() if 'type="actual"' in line]
    return float(lines[0].rsplit(" ", 1)[1]) if lines else -1.0


def settled(daemon: Any, tokens: int) -> None:  # noqa: ANN401
    """Wait for the settlement of an answer, which is on its way when the answer has come."""
    deadline = time.monotonic() + 10
    while (found := consumed(daemon)) != tokens:
        assert time.monotonic() < deadline, f"settled {found}, not {tokens}"
        time.sleep(0.01)


def test_bytes_pass_as_they_are(serve: Serve, upstream: Upstream) -> None:
    daemon = serve(llm_bundle(10**9), mode="reverse_proxy", backend_url=upstream.url + "/base")
    body = bytes(range(256)) * 4000
    connection = client(daemon)
    connection.putrequest("POST", "/a%2Fb//c?x=%20&y", skip_accept_encoding=True)
    for name, value in [
        ("X-Mode", "echo"), ("X-Two", "1"), ("X-Two", "2"), ("Connection", "close, X-Mine"),
        ("X-Mine", "no"), ("Accept-Encoding", "gzip"), ("Content-Length", str(len(body))),
    ]:  # fmt: skip
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    assert response.read() == body
    connection.close()
    assert response.headers["X-Upstream"] == "yes"
    seen = upstream.seen[0]
    assert (seen.method, seen.target, seen.body) == ("POST", "/base/a%2Fb//c?x=%20&y", body)
    assert [value for name, value in seen.headers if name == "X-Two"] == ["1", "2"]
    assert seen.header("Host") == f"127.0.0.1:{upstream.port}"
    assert seen.header("X-Forwarded-For") == "127.0.0.1"
    assert seen.header("X-Mine") == ""
    assert seen.header("Accept-Encoding") == "gzip"  # nothing here is read, so nothing is asked


def test_our_fields_replace_the_upstreams_and_the_reservation_stays_inside(
    serve: Serve, upstream: Upstream
) -> None:
    daemon = serve(
        llm_bundle(1000), mode="reverse_proxy", backend_url=upstream.url, llm_format="openai"
    )
    response, _ = ask(daemon, **chat())
    assert response.status == 200
    assert response.headers.get_all("RateLimit-Limit") == ["1000"]
    assert "X-Fairvisor-Reservation" not in response.headers
    assert upstream.seen[0].header("Accept-Encoding") == "identity"


def test_connections_to_the_upstream_are_kept(serve: Serve, upstream: Upstream) -> None:
    daemon = serve(llm_bundle(10**6), mode="reverse_proxy", backend_url=upstream.url)
    for _ in range(5):
        assert ask(daemon, **chat())[0].status == 200
    assert upstream.connections == 1


def test_head_and_other_bodiless_answers(serve: Serve, upstream: Upstream) -> None:
    daemon = serve(llm_bundle(10**6), mode="reverse_proxy", backend_url=upstream.url)
    connection = client(daemon)
    for _ in range(2):
        connection.request("HEAD", "/x")
        response = connection.getresponse()
        assert response.read() == b""
        assert int(response.headers["Content-Length"]) > 0
    connection.close()


def test_bodies_beyond_the_bound_are_streamed(serve: Serve, upstream: Upstream) -> None:
    daemon = serve(
        llm_bundle(10**9), mode="reverse_proxy", backend_url=upstream.url, max_body_bytes=100_000
    )
    body = bytes(range(251)) * 20_000
    response, back = ask(daemon, method="POST", url="/up", body=body, headers={"X-Mode": "echo"})
    assert (response.status, back == body) == (200, True)
    chunks = (body[at : at + 70_001] for at in range(0, len(body), 70_001))
    response, back = ask(daemon, method="POST", url="/up", body=chunks, headers={"X-Mode": "echo"})
    assert (response.status, back == body) == (200, True)
    assert upstream.seen[1].header("Transfer-Encoding") == "chunked"


def test_local_paths_stay_local(serve: Serve, upstream: Upstream) -> None:
    daemon = serve(llm_bundle(), mode="reverse_proxy", backend_url=upstream.url)
    assert ask(daemon, method="GET", url="/livez")[1] == b"ok"
    assert ask(daemon, method="GET", url="/readyz")[0].status == 200
    assert upstream.seen == []
    ask(daemon, method="GET", url="/v1/decision")
    assert upstream.seen[0].target == "/v1/decision"


@pytest.mark.parametrize("format_", ["openai", "anthropic", "gemini"])
def test_a_refused_budget_in_the_vendors_shape(
    serve: Serve, upstream: Upstream, format_: str
) -> None:
    daemon = serve(
        llm_bundle(150), mode="reverse_proxy", backend_url=upstream.url, llm_format=format_
    )
    assert ask(daemon, **chat(mode="bare"))[0].status == 200
    response, body = ask(daemon, **chat())
    assert response.status == 429
    assert int(response.headers["Retry-After"]) >= 1
    assert response.headers["X-Fairvisor-Reason"] == "tpm_exceeded"
    error = json.loads(body)["error"]
    assert "tpm_exceeded" in error["message"]
    kinds = {"openai": "rate_limit_error", "anthropic": "rate_limit_error", "gemini": None}
    assert error.get("type") == kinds[format_]
    assert len(upstream.seen) == 1


STREAMS = [
    ("openai", "/v1/chat/completions", {"stream": True}),
    ("openai", "/v1/responses", {"stream": True}),
    ("anthropic", "/v1/messages", {"stream": True}),
    ("gemini", "/v1beta/models/m:streamGenerateContent?alt=sse", {}),
    ("gemini", "/v1beta/models/m:streamGenerateContent", {}),
    ("openai", "/openai/v1/chat/completions", {}),
    ("anthropic", "/anthropic/v1/messages", {}),
    ("gemini", "/gemini/v1beta/models/m:generateContent", {}),
    ("openai", "/v1/responses", {}),
]


@pytest.mark.parametrize(("format_", "url", "body"), STREAMS)
def test_every_format_settles_what_the_upstream_billed(
    serve: Serve, upstream: Upstream, format_: str, url: str, body: dict[str, object]
) -> None:
    daemon = serve(
        llm_bundle(1000), mode="reverse_proxy", backend_url=upstream.url, llm_format=format_
    )
    response, data = ask(daemon, **{**chat(23, **body), "url": url})
    assert (response.status, b"tok " in data) == (200, True)
    assert not upstream.seen[0].target.startswith(f"/{format_}")
    assert upstream.seen[0].billed == 30
    settled(daemon, 30)
    left = ask(daemon, **{**chat(23, **body), "url": url})[0].headers["RateLimit-Remaining"]
    assert 868 <= int(left) <= 870 + 60  # 1000 - 30 - about 100 reserved, and some refill


def test_a_stream_reaches_the_client_while_it_is_made(serve: Serve, upstream: Upstream) -> None:
    daemon = serve(
        llm_bundle(1000), mode="reverse_proxy", backend_url=upstream.url, llm_format="openai"
    )
    connection = client(daemon)
    connection.request(**chat(3, "gate", stream=True))
    response = connection.getresponse()
    assert response.readline().startswith(b"data: ")
    assert not upstream.seen[0].complete  # it waits for us
    upstream.gate.set()
    rest = response.read()
    connection.close()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert b'"usage"' not in rest  # we asked for it, the client did not
    settled(daemon, 10)


def test_a_client_that_asks_for_usage_gets_it(serve: Serve, upstream: Upstream) -> None:
    daemon = serve(
        llm_bundle(1000), mode="reverse_proxy", backend_url=upstream.url, llm_format="openai"
    )
    body = chat(3, stream=True, stream_options={"include_usage": True})
    assert b'"usage"' in ask(daemon, **body)[1]


def test_a_stream_is_cut(serve: Serve, upstream: Upstream) -> None:
    bundle = llm_bundle(1000, max_completion_tokens=20, streaming={"buffer_tokens": 5})
    daemon = serve(bundle, mode="reverse_proxy", backend_url=upstream.url, llm_format="openai")
    response, data = ask(daemon, **chat(100_000, stream=True))
    assert response.status == 200
    assert data.count(b"tok ") == 24  # the check at 25 is the first above 20
    assert data.endswith(b'"total_tokens":26}}\n\ndata: [DONE]\n\n')
    assert upstream.gone.wait(10)
    settled(daemon, 26)


def produces(line: bytes) -> bool:
    """Return whether a line of a stream brings a token; a role comes first, which is none."""
    assert line
    if not line.startswith(b"data: {"):
        return False
    return bool(json.loads(line[6:])["choices"][0]["delta"].get("content"))


def test_a_client_that_leaves_is_charged_for_what_was_made(
    serve: Serve, upstream: Upstream
) -> None:
    daemon = serve(
        llm_bundle(1000), mode="reverse_proxy", backend_url=upstream.url, llm_format="openai"
    )
    connection = client(daemon)
    connection.request(**chat(3, "gate", stream=True))
    response = connection.getresponse()
    while not produces(response.readline()):
        pass
    response.close()
    connection.close()
    assert upstream.gone.wait(10)
    settled(daemon, 2)  # one token of prompt estimated, one produced


def test_a_client_that_leaves_while_the_upstream_is_silent(
    serve: Serve, upstream: Upstream
) -> None:
    daemon = serve(
        llm_bundle(1000), mode="reverse_proxy", backend_url=upstream.url, llm_format="openai"
    )
    connection = client(daemon)
    connection.request(**chat(3, "hang", stream=True))
    assert upstream.arrived.wait(10)
    connection.close()
    assert upstream.gone.wait(10)
    settled(daemon, 1)


def test_errors_of_the_upstream_pass_and_cost_nothing(serve: Serve, upstream: Upstream) -> None:
    daemon = serve(
        llm_bundle(150), mode="reverse_proxy", backend_url=upstream.url, llm_format="openai"
    )
    for stream in (False, True):
        response, body = ask(daemon, **chat(mode="error", stream=stream))
        assert (response.status, b"upstream broke" in body) == (500, True)
    assert ask(daemon, **chat())[0].status == 200
    settled(daemon, 12)


def test_an_upstream_that_is_not_there(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    daemon = serve(
        llm_bundle(150),
        mode="reverse_proxy",
        backend_url=f"http://127.0.0.1:{port}",
        llm_format="openai",
    )
    for _ in range(3):  # refunded each time: two would not fit
        response, body = ask(daemon, **chat())
        assert response.status == 502
        assert json.loads(body)["error"]["type"] == "server_error"
    settled(daemon, 0)


def test_an_upstream_that_says_nothing(serve: Serve, upstream: Upstream) -> None:
    daemon = serve(
        llm_bundle(150),
        mode="reverse_proxy",
        backend_url=upstream.url,
        llm_format="openai",
        upstream_timeout="0.2",
    )
    for _ in range(2):
        assert ask(daemon, **chat(mode="hang"))[0].status == 504
    assert upstream.gone.wait(10)
    settled(daemon, 0)


def test_a_stream_that_breaks_off_breaks_off_for_the_client(
    serve: Serve, upstream: Upstream
) -> None:
    daemon = serve(
        llm_bundle(1000), mode="reverse_proxy", backend_url=upstream.url, llm_format="openai"
    )
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(daemon, **chat(3, "reset", stream=True))
    settled(daemon, 2)


def test_a_body_shorter_than_it_says_is_not_taken_for_whole(
    serve: Serve, upstream: Upstream
) -> None:
    daemon = serve(
        llm_bundle(150), mode="reverse_proxy", backend_url=upstream.url, llm_format="openai"
    )
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(daemon, **chat(mode="lie"))
    assert ask(daemon, **chat())[0].status == 429  # what it used cannot be known: stays charged


def test_the_operators_key_replaces_the_clients_and_shows_nowhere(
    serve: Serve, upstream: Upstream
) -> None:
    daemon = serve(
        llm_bundle(1000),
        mode="reverse_proxy",
        backend_url=upstream.url,
        llm_format="openai",
        strip_request_headers="Cookie, x-secret",
        upstream_header_authorization=f"Bearer {CANARY}",
        log_level="debug",
    )
    arguments = chat()
    arguments["headers"] |= {"Authorization": "Bearer mine", "Cookie": "a=b", "X_Secret": "c"}
    response, body = ask(daemon, **arguments)
    seen = upstream.seen[0]
    assert [v for n, v in seen.headers if n.lower() == "authorization"] == [f"Bearer {CANARY}"]
    assert seen.header("Cookie") == seen.header("X_Secret") == ""
    _, metrics = ask(daemon, method="GET", url="/metrics")
    assert CANARY not in f"{response.headers}{body!r}{metrics!r}{daemon.said()}"


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"mode": "reverse_proxy"}, "FAIRVISOR_BACKEND_URL"),
        ({"mode": "reverse_proxy", "backend_url": "nowhere"}, "FAIRVISOR_BACKEND_URL"),
        ({"mode": "wrapper", "provider_openai_url": "x"}, "FAIRVISOR_PROVIDER_OPENAI_URL"),
        ({"mode": "wrapper", "upstream_header_x": "a\tb"}, "FAIRVISOR_UPSTREAM_HEADER_X"),
        ({"mode": "wrapper", "wrapper_auth": "maybe"}, "FAIRVISOR_WRAPPER_AUTH"),
    ],
)
def test_settings_that_cannot_work_are_named(
    serve: Serve, variables: dict[str, str], name: str
) -> None:
    daemon = serve(llm_bundle(), ready=False, **variables)
    assert daemon.process.wait(20) == 1
    assert daemon.said().startswith(f"fairvisor: {name}: ") or name in daemon.said()
    assert daemon.said().count("\n") == 1
